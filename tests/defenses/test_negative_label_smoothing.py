import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator
from torch.nn import functional as F

from fedsplit.defenses.negative_label_smoothing import NegativeLabelSmoothing
from fedsplit.errors import ScenarioError
from fedsplit.records.step import ServerStep
from tests import tiny
from tests.federation.builders import CLASSES, plan_of


@given(st.floats(-1, -0.001), st.integers(0, 50))
def test_with_the_cross_entropy_it_is_smoothing_by_that_amount(amount: float, seed: int) -> None:
    rng = Generator().manual_seed(seed)
    logits = 3 * torch.randn(7, CLASSES, generator=rng, dtype=torch.float64)
    labels = torch.randint(CLASSES, (7,), generator=rng)
    added = NegativeLabelSmoothing(amount=amount).server_penalty(ServerStep((("logits", logits),), logits, labels))
    # Smoothing is linear in its amount, and torch knows it above zero.
    plain, smoothed = (F.cross_entropy(logits, labels, label_smoothing=one) for one in (0.0, -amount))
    torch.testing.assert_close(plain + added, plain - (smoothed - plain), rtol=1e-10, atol=1e-12)


def test_alone_it_moves_every_parameter_of_the_server() -> None:
    plan = plan_of(defense=NegativeLabelSmoothing())
    segments = plan.segments()
    smashed = torch.rand(6, *segments.cut_shape, generator=Generator().manual_seed(1))
    features = segments.server.features(smashed)
    plan.defense.server_penalty(ServerStep(features, features[-1][1], torch.arange(6) % CLASSES)).backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in segments.server.parameters())


@pytest.mark.parametrize(
    "row", ["{kind: negative_label_smoothing}", "[{kind: low_rank, rank: 2}, {kind: negative_label_smoothing}]"]
)
def test_labels_that_stay_at_the_client_are_refused_before_any_compute(row: str) -> None:
    refused = (
        "head: 'logits': keeps the labels at the client, and row 'sure' needs them at the server; leave `head` out"
    )
    with pytest.raises(ScenarioError, match=re.escape(refused)):
        tiny.scenario("head=logits", f"defenses.sure={row}")
    assert tiny.scenario(f"defenses.sure={row}").head is None
