from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import Generator, Tensor

from fedsplit.defenses.laplace_noise import LaplaceNoise
from tests.federation.builders import assert_same, federation, joined, plan_of, train


def noise(scale: float, smashed: Tensor, seed: int = 0, *, relative: bool = False) -> Tensor:
    return LaplaceNoise(scale=scale, relative=relative).release(smashed, Generator().manual_seed(seed)) - smashed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_noise_is_laplacian_with_this_scale(scale: float, dtype: torch.dtype) -> None:
    drawn = noise(scale, torch.zeros(200, 4, 5, 10, dtype=dtype)).flatten().double().numpy()
    assert scipy.stats.kstest(drawn, "laplace", args=(0, scale)).pvalue > 0.01
    assert drawn.std() == pytest.approx(scale * 2**0.5, rel=0.03)
    # A Laplace distribution has an excess kurtosis of 3, a Gaussian of 0.
    assert scipy.stats.kurtosis(drawn) == pytest.approx(3, abs=0.6)


def test_the_edge_of_the_uniform_draw_gives_a_finite_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    drawn = noise(1.0, torch.zeros(2, 3))
    assert drawn.isfinite().all()
    assert (drawn < -10).all()


def test_relative_noise_follows_each_samples_own_spread() -> None:
    scales = torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64).view(3, 1, 1)
    smashed = 7 + scales * torch.randn(3, 200, 200, generator=Generator().manual_seed(1), dtype=torch.float64)
    drawn = noise(0.5, smashed, relative=True).flatten(1)
    expected = 0.5 * 2**0.5 * smashed.flatten(1).numpy().std(axis=1)
    assert drawn.std(dim=1).numpy() == pytest.approx(expected, rel=0.03)


def test_vanishing_noise_equals_no_defense(tmp_path: Path) -> None:
    data = federation()
    tiny = train(tmp_path / "tiny", plan_of(defense=LaplaceNoise(scale=1e-15), precision="float64"), data)
    none = train(tmp_path / "none", plan_of(precision="float64"), data)
    assert_same(joined(tiny.standing), joined(none.standing))
