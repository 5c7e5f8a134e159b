"""What every bound promises; a plug-in passes it by being added to SETTINGS."""

import importlib
import re
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Generator, Tensor, nn

from fedsplit.bounds.base import BOUNDS, AnyBound, Bound, Channel
from fedsplit.layers.linear_map import fit_linear_maps
from fedsplit.metrics.base import METRICS
from fedsplit.seeding import Seeds

SETTINGS: list[dict[str, Any]] = [{"kind": kind} for kind in BOUNDS.shipped]

bounds: TypeAdapter[Bound] = TypeAdapter(AnyBound)


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def bound(request: pytest.FixtureRequest) -> Bound:
    return bounds.validate_python(request.param)


def images(count: int) -> Tensor:
    """Smooth enough that some of what did not cross can be guessed."""
    rough = torch.rand((count, 1, 8, 8), generator=Generator().manual_seed(count))
    return nn.functional.avg_pool2d(rough, 3, stride=1, padding=1)


def channel(noise_variance: float | None = 0.0, rank: int = 10) -> Channel:
    with Seeds(1).fork("client"):
        return Channel(nn.Sequential(nn.Flatten(), nn.Linear(64, rank)).eval(), noise_variance)


@torch.no_grad()
def test_the_best_affine_attack_on_an_affine_client_is_on_its_side(bound: Bound) -> None:
    targets, auxiliary = images(100), images(2000)
    seen = channel()
    fitted = min(fit_linear_maps(seen.client(auxiliary), auxiliary), key=lambda one: one.error)
    error = float((fitted.predict(seen.client(targets)) - targets).square().mean())
    found = bound.limit(seen, targets)
    assert found.value is not None
    assert found.direction == "at least" and found.metric == "mse", "another one takes another attack"
    assert 0.5 * error < found.value < error


def test_it_is_the_same_for_targets_in_another_order(bound: Bound) -> None:
    targets = images(50)
    order = torch.randperm(50, generator=Generator().manual_seed(0))
    found, permuted = (bound.limit(channel(0.1), some).value for some in (targets, targets[order]))
    assert found == pytest.approx(permuted)


def test_it_has_a_number_or_says_why_not(bound: Bound) -> None:
    for seen in (channel(), channel(0.5), channel(None)):
        found = bound.limit(seen, images(50))
        assert (found.value is None) == bool(found.reason)
        assert found.about == bound.about and found.about


def test_it_is_about_a_metric_that_there_is(bound: Bound) -> None:
    assert bound.metric in METRICS.shipped
    more_leaks = METRICS.shipped_member(bound.metric).more_leaks
    assert bound.direction == ("at least" if more_leaks == "lower" else "at most")


def test_its_settings_survive_yaml_and_an_unknown_one_is_refused(bound: Bound) -> None:
    text = yaml.safe_dump(bounds.dump_python(bound, mode="json"))
    assert bounds.validate_python(yaml.safe_load(text)) == bound
    with pytest.raises(ValidationError, match="surprise"):
        bounds.validate_python({"kind": bound.kind, "surprise": 1})


@pytest.mark.parametrize("kind", BOUNDS.shipped)
def test_its_module_cites_a_paper(kind: str) -> None:
    text = importlib.import_module(f"fedsplit.bounds.{kind}").__doc__
    assert text is not None and re.search(r"(19|20)\d\d", text)
