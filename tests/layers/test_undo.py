"""Each layer's undoing against closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.layers.undo import Lesson, Sight, undo_batch_norm, undo_linear, undo_relu, undo_tanh
from fedsplit.layers.undo_sparse import Cleaning, certified_error, undo_sparse_coding
from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.fista import Fista
from fedsplit.seeding import Seeds

ROUNDING = 1e-16


def lesson(layer: nn.Module, inputs: Tensor) -> tuple[Lesson, Sight]:
    with torch.no_grad():
        outputs = layer(inputs)
    seen = Sight(outputs, ROUNDING)
    return Lesson(inputs, outputs, seen, ROUNDING), seen


def normal(*shape: int, name: str = "inputs") -> Tensor:
    return torch.randn(*shape, generator=Seeds(0)(name), dtype=torch.float64)


def coded(count: int = 24, features: int = 8, lambda_: float = 0.2) -> tuple[SparseCodingLayer, Tensor, Tensor]:
    """A layer without standardisation, images, and their codes, converged."""
    with Seeds(0).fork("layer"):
        layer = SparseCodingLayer(
            1, features, 3, lambda_=lambda_, solver=Fista(1e-12, 20000), standardise=False
        ).double()
    images = normal(count, 1, 8, 8)
    return layer, images, layer(images)


def active_atoms(layer: SparseCodingLayer, codes: Tensor) -> Tensor:
    """(active, pixels) of one sample."""
    dictionary = Dictionary(layer.atoms, (8, 8), layer.stride, layer.padding)
    number = codes.flatten().nonzero()[:, 0]
    single = torch.zeros(len(number), codes.numel(), dtype=codes.dtype)
    single[torch.arange(len(number)), number] = 1
    return dictionary.synthesise(single.view(-1, *codes.shape)).flatten(1)


def test_relu_is_known_where_it_is_positive():
    about, seen = lesson(nn.ReLU(), normal(5, 7))
    found = undo_relu(nn.ReLU(), about)(seen)
    assert found.known is not None
    assert torch.equal(found.known, about.inputs > 0)
    assert torch.equal(found.values[found.known], about.inputs[found.known])


def test_tanh_and_normalisation_are_undone():
    for layer in (nn.Tanh(), nn.BatchNorm2d(3).double().eval()):
        about, seen = lesson(layer, normal(6, 3, 4, 4))
        undo = undo_tanh(layer, about) if isinstance(layer, nn.Tanh) else undo_batch_norm(layer, about)
        torch.testing.assert_close(undo(seen).values, about.inputs)


def test_a_channel_without_a_factor_gets_its_mean():
    layer = nn.BatchNorm2d(2).double().eval()
    nn.init.zeros_(layer.weight)
    about, seen = lesson(layer, normal(6, 2, 4, 4))
    expected = about.inputs.mean(dim=(0, 2, 3))[:, None, None].expand_as(about.inputs)
    torch.testing.assert_close(undo_batch_norm(layer, about)(seen).values, expected)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_linear_inputs_explain_the_known_outputs(inputs: int, outputs: int, seed: int):
    rng = torch.Generator().manual_seed(seed)
    with Seeds(seed).fork("layer"):
        layer = nn.Linear(inputs, outputs).double()
    about, seen = lesson(layer, torch.randn(30, 4, inputs, generator=rng, dtype=torch.float64))
    known = torch.rand(seen.values.shape, generator=rng) < 0.5
    found = undo_linear(layer, about)(Sight(seen.values, ROUNDING, known)).values
    # Whatever is left open, what is known must come out again; a nearly singular choice of outputs costs digits.
    torch.testing.assert_close(layer(found)[known], seen.values[known], rtol=0, atol=1e-3)


def test_linear_with_enough_outputs_is_exact():
    with Seeds(0).fork("layer"):
        layer = nn.Linear(6, 30).double()
    about, seen = lesson(layer, normal(40, 5, 6))
    found = undo_linear(layer, about)(Sight(seen.values, ROUNDING, seen.values > 0)).values
    torch.testing.assert_close(found, about.inputs, rtol=0, atol=1e-9)


def test_what_outputs_leave_open_is_the_regression_on_them():
    with Seeds(0).fork("layer"):
        layer = nn.Linear(5, 2).double()
    about, seen = lesson(layer, normal(4000, 5) @ normal(5, 5, name="mix") + 3)
    found = undo_linear(layer, about)(seen).values
    design = torch.cat([seen.values, torch.ones(4000, 1, dtype=torch.float64)], dim=1)
    expected = design @ torch.linalg.lstsq(design, about.inputs).solution
    assert (found - expected).square().mean() < 1e-3 * about.inputs.var()


def test_the_certificate_is_the_error():
    layer, images, _ = coded()
    layer.standardise = True
    codes = layer(images)
    standard, plain = layer.standardised(images), layer.reconstruct(codes)
    error = (standard - plain).square().sum(dim=(1, 2, 3)) / standard.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(certified_error(layer, codes, plain), error, rtol=0, atol=1e-9)


def test_the_projection_on_the_active_atoms_is_exact():
    layer, images, codes = coded(lambda_=0.8)
    about = Lesson(images, codes, Sight(codes, ROUNDING), ROUNDING)
    found = undo_sparse_coding(layer, about)(Sight(codes, ROUNDING)).values
    for image, guess, own in zip(images, found, codes, strict=True):
        atoms = active_atoms(layer, own)
        assert len(atoms) > 0
        torch.testing.assert_close(atoms @ guess.flatten(), atoms @ image.flatten(), rtol=0, atol=1e-4)


def test_as_many_independent_active_atoms_as_pixels_hide_nothing():
    layer, images, codes = coded(count=8, features=16, lambda_=0.03)
    about = Lesson(images, codes, Sight(codes, ROUNDING), ROUNDING)
    found = undo_sparse_coding(layer, about)(Sight(codes, ROUNDING)).values
    ranks = torch.stack([torch.linalg.matrix_rank(active_atoms(layer, own), rtol=1e-2) for own in codes])
    full = ranks == images[0].numel()
    assert full.any()
    torch.testing.assert_close(found[full], images[full], rtol=0, atol=1e-4)


def test_fewer_codes_than_channels_are_filled_in_with_what_images_are_like():
    def smooth(count: int, name: str) -> Tensor:
        planes = normal(count, 6, 14, 14, name=name)
        shifts = [planes.roll((down, right), dims=(2, 3)) for down in range(3) for right in range(3)]
        return torch.stack(shifts).sum(dim=0).relu()

    with Seeds(0).fork("layer"):
        layer = SparseCodingLayer(6, 3, 5, lambda_=0.1, solver=Fista(0.2, 30)).double()
    about, _ = lesson(layer, smooth(96, "lessons"))
    truth = smooth(16, "truth")
    found = undo_sparse_coding(layer, about)(Sight(layer(truth), ROUNDING)).values
    error, anchor = ((guess - truth).square().mean() for guess in (found, about.inputs.mean(dim=0)))
    assert error < 0.65 * anchor


def test_signed_codes_have_equations_of_both_signs():
    layer, images, _ = coded()
    layer.nonnegative = False
    codes = layer(images)
    assert (codes < 0).any()
    about = Lesson(images, codes, Sight(codes, ROUNDING), ROUNDING)
    found = undo_sparse_coding(layer, about)(Sight(codes, ROUNDING)).values
    plain = layer.reconstruct(codes)
    assert (found - images).square().mean() < 0.1 * (plain - images).square().mean()


@pytest.mark.parametrize("blur", [1e-8, 1e-3])
def test_codes_are_cleaned_of_what_the_walk_left_in_them(blur: float):
    _, images, codes = coded(lambda_=0.5)
    off = codes + blur * normal(*codes.shape, name="blur")
    clean = Cleaning(Lesson(images, codes, Sight(off, blur**2), ROUNDING), nonnegative=True)
    wrong = ((clean(off) != 0) != (codes != 0)).double().mean()
    assert wrong < 10 * blur
    assert ((off > 0) != (codes != 0)).double().mean() > 0.2
