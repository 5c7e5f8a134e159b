import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator
from torch.distributions import Normal, kl_divergence

from fedsplit.numerics.gaussian_divergence import divergence_from_standard


@given(st.integers(0, 1000), st.integers(1, 9))
def test_it_is_what_torch_says_summed_over_dimensions(seed: int, size: int) -> None:
    rng = Generator().manual_seed(seed)
    mean = 3 * torch.randn(5, size, generator=rng, dtype=torch.float64)
    deviation = torch.randn(5, size, generator=rng, dtype=torch.float64).exp()
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=1)
    # 1e-7 inside the logarithm is worth 1e-7 / deviation.
    torch.testing.assert_close(divergence_from_standard(mean, deviation), expected, rtol=1e-7, atol=1e-4)


def test_it_is_nothing_for_the_standard_gaussian_and_finite_without_any_deviation() -> None:
    standard = divergence_from_standard(torch.zeros(2, 4, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64))
    assert standard.abs().max() < 1e-6
    deviation = torch.zeros(2, 4, requires_grad=True)
    found = divergence_from_standard(torch.zeros(2, 4), deviation)
    found.sum().backward()
    # 16.12 = -log(1e-7).
    torch.testing.assert_close(found, torch.full((2,), 4 * (16.118 - 0.5)), rtol=1e-4, atol=0)
    assert deviation.grad is not None and deviation.grad.isfinite().all()
