"""A dictionary is the matrix it stands for; its bound is above every eigenvalue."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.seeding import Seeds
from tests.numerics.dictionaries import codes_and_images, dictionaries, normal
from tests.numerics.unrolled import unrolled


@settings(max_examples=25)
@given(dictionary=dictionaries())
def test_synthesis_and_correlation_are_the_matrix_and_its_transpose(dictionary: Dictionary):
    codes, images = codes_and_images(dictionary)
    matrix = unrolled(dictionary)
    synthesis, correlation = dictionary.synthesise(codes), dictionary.correlate(images)
    torch.testing.assert_close(synthesis.flatten(1), codes.flatten(1) @ matrix.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(correlation.flatten(1), images.flatten(1) @ matrix, rtol=0, atol=1e-12)


@settings(max_examples=25)
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


def largest(matrix: Tensor) -> float:
    return torch.linalg.matrix_norm(matrix, ord=2).item() ** 2


@settings(max_examples=25)
@given(dictionary=dictionaries())
def test_the_bound_is_above_the_largest_eigenvalue(dictionary: Dictionary):
    assert dictionary.bound() >= largest(unrolled(dictionary))


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
