from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import Generator

from fedsplit.defenses.dropout_at_cut import DropoutAtCut
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from tests.federation.builders import auxiliary, federation, plan_of, train


@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_so_many_values_are_zero_and_the_others_are_as_they_were(rate: float) -> None:
    smashed = 1 + torch.rand(100, 5, 40, generator=Generator().manual_seed(1))
    released = DropoutAtCut(rate=rate).release(smashed, Generator().manual_seed(2))
    zero = released == 0
    assert torch.equal(released[~zero], smashed[~zero])
    assert scipy.stats.binomtest(int(zero.sum()), zero.numel(), rate).pvalue > 0.01


def test_values_and_samples_are_dropped_independently() -> None:
    kept = (DropoutAtCut(rate=0.5).release(torch.ones(4000, 5), Generator().manual_seed(3)) != 0).double()
    assert (torch.corrcoef(kept.T) - torch.eye(5)).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([kept[:-1, 0], kept[1:, 0]]))[0, 1].abs() < 0.06


def test_the_gradient_passes_where_a_value_did() -> None:
    smashed = torch.ones(3, 8, requires_grad=True)
    released = DropoutAtCut(rate=0.5).release(smashed, Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad(released.sum(), smashed)
    assert torch.equal(gradient, released.detach())


def test_it_goes_on_after_training(tmp_path: Path) -> None:
    plan, data = plan_of(defense=DropoutAtCut(rate=0.6)), federation()
    trained = train(tmp_path, plan, data, recording=Recording(training=(1,), inference=(1,)))
    leak = expose(plan, trained, data, auxiliary(), Observation("inference", 1, defended=True)).leak
    assert leak.smashed is not None
    assert leak.client_queries is not None
    assert (leak.smashed == 0).double().mean() > 0.4
    asked = [leak.client_queries(auxiliary().images, Generator().manual_seed(seed)) for seed in (1, 2)]
    assert not torch.equal(asked[0], asked[1])
