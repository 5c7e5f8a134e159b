import numpy as np
import pytest
import scipy.stats
import torch
from torch import Generator, Tensor, nn

from fedsplit.layers.disturbed import left_out
from fedsplit.layers.gaussian_code import GaussianMoments, GaussianSample, SampledExpansion, UnsampledCode, sampled


def code_of(mean: Tensor, deviation: Tensor) -> Tensor:
    return UnsampledCode(in_training=True, at_inference=True)(torch.cat([mean, deviation], dim=1))


def test_means_are_one_half_of_a_linear_map_and_deviations_softplus_of_the_other_less_five() -> None:
    layer = GaussianMoments((2, 3, 4), 5).double()
    inputs = 20 * torch.randn(7, 2, 3, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    weight, bias = (value.detach().numpy() for value in (layer.map.weight, layer.map.bias))
    raw = inputs.flatten(1).numpy() @ weight.T + bias
    expected = np.concatenate([raw[:, :5], np.logaddexp(0, raw[:, 5:] - 5)], axis=1)
    assert layer(inputs).detach().numpy() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_a_sample_has_these_moments_in_either_mode(training: bool) -> None:
    mean, deviation = torch.tensor([-2.0, 0.0, 3.0]).double(), torch.tensor([0.01, 1.0, 4.0]).double()
    moments = torch.cat([mean, deviation]).expand(20000, 6)
    layer = GaussianSample().train(training)
    released = sampled(code_of(*moments.chunk(2, dim=1)), Generator().manual_seed(1))
    assert not released[:, 3:].any()
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(2)
        drawn = layer(moments)
    for samples in (drawn, released[:, :3]):
        noise = (samples - mean) / deviation
        assert scipy.stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
        assert (torch.corrcoef(noise.T) - torch.eye(3)).abs().max() < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_deviation_is_carried_to_the_last_bit_and_yet_weighs_nothing(dtype: torch.dtype) -> None:
    rng = Generator().manual_seed(0)
    mean, deviation = torch.zeros(9, 4, dtype=dtype), torch.rand(9, 4, generator=rng, dtype=dtype)
    carried = code_of(mean, deviation)
    noise = torch.randn((9, 4), generator=Generator().manual_seed(3), dtype=dtype)
    assert torch.equal(sampled(carried, Generator().manual_seed(3))[:, :4], deviation * noise)
    assert carried.square().sum() < 1e-9


def test_the_gradient_reaches_mean_and_deviation_as_through_the_formula() -> None:
    rng = Generator().manual_seed(0)
    mean, deviation = (torch.rand(3, 4, generator=rng).requires_grad_() for _ in range(2))
    weight, noise = torch.rand(3, 8, generator=rng), torch.randn((3, 4), generator=Generator().manual_seed(3))
    released = sampled(code_of(mean, deviation), Generator().manual_seed(3))
    found = torch.autograd.grad((released * weight).sum(), [mean, deviation])
    torch.testing.assert_close(found, (weight[:, :4], weight[:, :4] * noise))


def test_who_holds_the_weights_has_the_mean() -> None:
    moments = torch.randn(5, 8, generator=Generator().manual_seed(0))
    state = torch.random.get_rng_state()
    held = left_out(nn.Sequential(GaussianSample()))
    assert torch.equal(held(moments), moments[:, :4])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_where_nobody_samples_no_deviation_is_carried() -> None:
    moments = torch.rand(3, 8)
    for training in (True, False):
        layer = UnsampledCode(in_training=training, at_inference=not training)
        assert layer.train(training)(moments)[:, 4:].all()
        code = layer.train(not training)(moments)
        assert torch.equal(code, torch.cat([moments[:, :4], torch.zeros(3, 4)], dim=1))


def test_the_expansion_sees_samples_alone() -> None:
    layer = SampledExpansion(4, (2, 3))
    code, other = torch.rand(5, 8), torch.rand(5, 8)
    other[:, :4] = code[:, :4]
    assert layer(code).shape == (5, 2, 3)
    assert torch.equal(layer(code), layer(other))
