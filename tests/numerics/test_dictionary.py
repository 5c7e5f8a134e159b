"""A dictionary is the matrix it stands for, in any order of its sums; its bound is above every eigenvalue."""

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import Generator, Tensor

from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.seeding import Seeds
from tests.numerics.unrolled import unrolled


def normal(*shape: int, rng: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=dtype)


@strategies.composite
def dictionaries(draw: strategies.DrawFn) -> Dictionary:
    whole = strategies.integers
    kernel = draw(whole(1, 6))
    rng = Seeds(draw(whole(0, 1000)))("atoms")
    atoms = normal(draw(whole(1, 3)), draw(whole(1, 3)), kernel, kernel, rng=rng)
    size = (draw(whole(kernel, 10)), draw(whole(kernel, 10)))
    return Dictionary(normalised(atoms), size, draw(whole(1, 3)), draw(whole(0, kernel // 2)))


@strategies.composite
def splittable(draw: strategies.DrawFn) -> Dictionary:
    """With even sides, of images and of codes, and stride 1."""
    whole = strategies.integers
    kernel = draw(strategies.sampled_from([1, 3, 5, 7]))
    atoms = normal(draw(whole(1, 3)), draw(whole(1, 4)), kernel, kernel, rng=Seeds(draw(whole(0, 1000)))("atoms"))
    size = (2 * draw(whole(4, 6)), 2 * draw(whole(4, 6)))
    return Dictionary(atoms, size, 1, draw(whole(0, kernel // 2)))


def codes_and_images(dictionary: Dictionary) -> tuple[Tensor, Tensor]:
    rng = Seeds(1)("codes and images")
    channels = dictionary.atoms.shape[1]
    return normal(2, *dictionary.codes, rng=rng), normal(2, channels, *dictionary.size, rng=rng)


@settings(max_examples=25, deadline=None)
@given(dictionary=dictionaries())
def test_synthesis_and_correlation_are_the_matrix_and_its_transpose(dictionary: Dictionary):
    codes, images = codes_and_images(dictionary)
    matrix = unrolled(dictionary)
    synthesis, correlation = dictionary.synthesise(codes), dictionary.correlate(images)
    torch.testing.assert_close(synthesis.flatten(1), codes.flatten(1) @ matrix.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(correlation.flatten(1), images.flatten(1) @ matrix, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(dictionary=dictionaries())
def test_correlation_is_the_adjoint_of_synthesis(dictionary: Dictionary):
    codes, images = codes_and_images(dictionary)
    one = (dictionary.synthesise(codes) * images).sum().item()
    other = (codes * dictionary.correlate(images)).sum().item()
    assert one == pytest.approx(other, rel=1e-10, abs=1e-10)


def test_a_bias_is_a_number_on_top_of_a_features_correlation():
    dictionary = Dictionary(normal(3, 2, 3, 3, rng=Seeds(0)("atoms")), (6, 6), 1, 1)
    _, images = codes_and_images(dictionary)
    bias = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    above = dictionary.correlate(images, bias) - dictionary.correlate(images)
    torch.testing.assert_close(above, bias[:, None, None].expand_as(above))


@settings(max_examples=25, deadline=None)
@given(dictionary=splittable())
def test_phases_are_the_same_operator(dictionary: Dictionary):
    codes, images = codes_and_images(dictionary)
    inner = dictionary.in_phases()
    assert inner.phases == 2
    assert inner.codes == tuple(inner.split(codes).shape[1:])
    synthesis = inner.join(inner.synthesise(inner.split(codes)))
    correlation = inner.join(inner.correlate(inner.split(images)))
    torch.testing.assert_close(synthesis, dictionary.synthesise(codes), rtol=0, atol=1e-12)
    torch.testing.assert_close(correlation, dictionary.correlate(images), rtol=0, atol=1e-12)
    assert torch.equal(inner.join(inner.split(images)), images)


@pytest.mark.parametrize(
    ("channels", "kernel", "size", "stride", "padding"),
    [(1, 5, (8, 8), 2, 2), (1, 5, (9, 8), 1, 2), (9, 5, (8, 8), 1, 2), (1, 4, (8, 8), 1, 0)],
    ids=["strided", "odd side", "many channels", "odd codes"],
)
def test_what_phases_do_not_fit_stays_as_it_is(
    channels: int, kernel: int, size: tuple[int, int], stride: int, padding: int
):
    dictionary = Dictionary(torch.ones(2, channels, kernel, kernel), size, stride, padding)
    assert dictionary.in_phases() is dictionary
    codes = torch.rand(1, *dictionary.codes, generator=Seeds(0)("codes"))
    assert torch.equal(dictionary.join(dictionary.split(codes)), codes)


def test_phases_of_phases_are_the_phases():
    inner = Dictionary(torch.ones(2, 1, 3, 3), (8, 8), 1, 1).in_phases()
    assert inner.in_phases() is inner


def largest(matrix: Tensor) -> float:
    return torch.linalg.matrix_norm(matrix, ord=2).item() ** 2


@settings(max_examples=25, deadline=None)
@given(dictionary=dictionaries())
def test_the_bound_is_above_the_largest_eigenvalue(dictionary: Dictionary):
    assert dictionary.bound() >= largest(unrolled(dictionary))


@settings(max_examples=15, deadline=None)
@given(dictionary=splittable())
def test_phases_have_the_eigenvalues_of_the_whole(dictionary: Dictionary):
    assert largest(unrolled(dictionary.in_phases())) == pytest.approx(largest(unrolled(dictionary)), rel=1e-9)


def power_iteration(dictionary: Dictionary, steps: int = 60) -> float:
    """From below to the largest eigenvalue of D'D."""
    codes = torch.randn((1, *dictionary.codes), generator=Seeds(2)("start"))
    for _ in range(steps):
        codes = dictionary.correlate(dictionary.synthesise(codes / codes.norm()))
    return codes.norm().item()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5, 8])
@pytest.mark.parametrize("smooth", [False, True], ids=["noise", "blobs"])
def test_the_bound_is_close(kernel: int, stride: int, smooth: bool):
    noise = normal(4, 2, kernel, kernel, rng=Seeds(kernel)("atoms"), dtype=torch.float32)
    atoms = normalised(noise.abs() + 1 if smooth else noise)
    dictionary = Dictionary(atoms, (40 * stride + kernel, 40 * stride + kernel), stride)
    value = power_iteration(dictionary)
    assert value <= dictionary.bound() <= 1.15 * value


def test_normalised_atoms_have_unit_norm_whatever_the_weights_scale():
    weights = normal(5, 2, 3, 3, rng=Seeds(0)("weights"))
    atoms = normalised(weights)
    torch.testing.assert_close(atoms.flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))
    scales = torch.tensor([1e-3, 0.1, 1, 10, 1e3], dtype=torch.float64)[:, None, None, None]
    torch.testing.assert_close(normalised(scales * weights), atoms, rtol=0, atol=1e-9)
    assert torch.equal(normalised(torch.zeros(1, 1, 3, 3)), torch.zeros(1, 1, 3, 3))
