import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.defenses.base import Defense
from fedsplit.defenses.negative_label_smoothing import NegativeLabelSmoothing
from fedsplit.defenses.none import Undefended
from fedsplit.errors import ScenarioError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.step import Progress, ServerStep
from tests import tiny
from tests.federation.builders import CLASSES, StopsAfter, bits, federation, plan_of, train


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


def test_the_amount_grows_as_published_with_rounds_for_epochs() -> None:
    smoothing = NegativeLabelSmoothing(amount=-0.2)
    amounts = [smoothing.acting(Progress(number, 100)) for number in range(1, 101)]
    assert amounts[:50] == [0] * 50
    expected = np.linspace(0, -0.2, 26)[1:]
    assert amounts[50:75] == pytest.approx(expected.tolist())
    assert amounts[74:] == [-0.2] * 26


@pytest.mark.parametrize(
    ("rounds", "start", "full", "expected"),
    [
        (1, 0.5, 0.75, [1]),
        (2, 0.5, 0.75, [0, 1]),
        (5, 0.5, 0.75, [0, 0, 0.4, 1, 1]),
        (4, 0.5, 0.5, [0, 0, 1, 1]),
        (4, 0.0, 0.0, [1, 1, 1, 1]),
        (4, 0.0, 1.0, [0.25, 0.5, 0.75, 1]),
    ],
)
def test_start_and_full_are_shares_of_the_rounds(rounds: int, start: float, full: float, expected: list[float]) -> None:
    smoothing = NegativeLabelSmoothing(amount=-0.5, start=start, full=full)
    found = [smoothing.acting(Progress(number, rounds)) for number in range(1, rounds + 1)]
    assert found == pytest.approx([-0.5 * share for share in expected])


def test_a_ramp_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValidationError, match=re.escape("`full` (0.2) is below `start` (0.5)")):
        NegativeLabelSmoothing(full=0.2)
    with pytest.raises(ValidationError):
        NegativeLabelSmoothing(start=1.0, full=1.0)


def test_rows_count_as_the_task_loss_counts_them() -> None:
    logits = torch.randn(3, CLASSES, generator=Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 0.0])
    twice = torch.tensor([0, 1, 1])

    def penalty(rows: Tensor, weights: Tensor | None = None) -> Tensor:
        some = logits[rows]
        return NegativeLabelSmoothing().server_penalty(ServerStep((("logits", some),), some, labels[rows], weights))

    torch.testing.assert_close(penalty(torch.arange(3), weights), penalty(twice))


def test_of_rows_that_are_drawn_the_loss_is_by_what_a_batch_is_expected_to_weigh() -> None:
    logits, labels = torch.randn(1, CLASSES, generator=Generator().manual_seed(0)), torch.tensor([1])
    step = ServerStep((("logits", logits),), logits, labels, torch.ones(1), expected=64.0)
    defense = NegativeLabelSmoothing(amount=-0.05)
    hard, even = F.cross_entropy(logits, labels), -logits.log_softmax(dim=1).mean()
    torch.testing.assert_close(hard / 64 + defense.server_penalty(step), (1.05 * hard - 0.05 * even) / 64)


@pytest.mark.parametrize("protocol", [SplitFedV1, SplitFedV2, Sequential, Parallel])
def test_nothing_is_changed_before_it_starts_and_going_on_gives_the_same_numbers(protocol, tmp_path: Path) -> None:
    def pages(defense: Defense) -> list[object]:
        recording = Recording(inference=(1, 2, 3, 4))
        trained = train(tmp_path / defense.kind, plan_of(defense=defense), data, schedule, recording)
        return [bits(page.server) for page in trained.ledger.pages]

    data, schedule, smoothing = federation(), protocol(rounds=4, batch_size=6), NegativeLabelSmoothing(amount=-0.5)
    plain, smoothed = pages(Undefended()), pages(smoothing)
    assert smoothed[:2] == plain[:2]
    assert smoothed[2] != plain[2]
    plan = plan_of(defense=smoothing)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan, data, schedule, checkpoint=StopsAfter(tmp_path, "this", last=3))
    resumed = train(tmp_path, plan, data, schedule, checkpoint=Checkpoint(tmp_path, "this"))
    assert bits(resumed.standing.server) == smoothed[3]


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
