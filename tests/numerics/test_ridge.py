"""Ridge against scikit-learn in float64, and against leaving rows out for real."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from sklearn.linear_model import Ridge as Reference
from sklearn.linear_model import RidgeCV
from torch import Tensor

from fedsplit.numerics.ridge import STRENGTHS, fit_ridge, fit_ridges, left_out_residuals
from fedsplit.seeding import Seeds

SHAPES = [(60, 7), (20, 20), (12, 40)]
FINITE = (1e-4, 1e-2, 1.0)


def problem(rows: int, features: int, noise: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = Seeds(seed)("problem")
    inputs = 2 + torch.randn(rows, features, generator=rng, dtype=torch.float64)
    weight = torch.randn(features, 3, generator=rng, dtype=torch.float64)
    return inputs, inputs @ weight + noise * torch.randn(rows, 3, generator=rng, dtype=torch.float64)


def largest(features: Tensor) -> float:
    return torch.linalg.matrix_norm(features - features.mean(dim=0), ord=2).item() ** 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strength", FINITE)
def test_the_fit_is_scikit_learns(shape: tuple[int, int], strength: float):
    features, targets = problem(*shape)
    ridge = fit_ridge(features, targets, (strength,))
    reference = Reference(alpha=strength * largest(features)).fit(features, targets)
    np.testing.assert_allclose(ridge.weight.T, reference.coef_, atol=1e-8)
    np.testing.assert_allclose(ridge.predict(features), reference.predict(features), atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_choice_and_its_errors_are_scikit_learns(shape: tuple[int, int]):
    features, targets = problem(*shape)
    alphas = [strength * largest(features) for strength in FINITE]
    reference = RidgeCV(alphas=alphas, store_cv_results=True).fit(features, targets)
    ridge = fit_ridge(features, targets, FINITE)
    assert ridge.strength * largest(features) == pytest.approx(reference.alpha_)
    np.testing.assert_allclose(ridge.errors, reference.cv_results_.mean(axis=(0, 1)), rtol=1e-6)


@pytest.mark.parametrize("shape", [(30, 5), (12, 40)])
def test_blocks_left_out_in_closed_form_are_blocks_left_out_for_real(shape: tuple[int, int]):
    features, targets = problem(*shape)
    alpha = 0.1 * largest(features)
    squares: list[Tensor] = []
    for block in range(0, shape[0], 3):
        kept = [row for row in range(shape[0]) if not block <= row < block + 3]
        reference = Reference(alpha=alpha).fit(features[kept], targets[kept])
        guess = torch.as_tensor(reference.predict(features[block : block + 3]))
        squares.append((guess - targets[block : block + 3]).square())
    ridge = fit_ridge(features, targets, (0.1,), block=3)
    assert ridge.errors[0] == pytest.approx(torch.cat(squares).mean().item(), rel=1e-8)


@pytest.mark.parametrize("offset", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("strength", [1e-10, 1e-8, 1e-4])
def test_rows_that_are_all_but_interpolated_are_left_out_for_real(strength: float, offset: float):
    rng = Seeds(0)("noise")
    features = torch.randn(300, 480, generator=rng).double() + offset
    targets = torch.randn(300, 5, generator=rng).double()
    squares: list[Tensor] = []
    for row in range(0, 300, 60):
        kept = torch.arange(300) != row
        reference = Reference(alpha=strength * largest(features)).fit(features[kept], targets[kept])
        squares.append((torch.as_tensor(reference.predict(features[row][None])) - targets[row]).square())
    ridge = fit_ridge(features, targets, (strength,), judged=5)
    assert ridge.errors[0] == pytest.approx(torch.cat(squares).mean().item(), rel=1e-3)


def test_judging_some_rows_judges_them_alone():
    features, targets = problem(30, 5)
    every = [fit_ridge(features, targets, (0.1,), judged=count).errors[0] for count in (10, 30, 500)]
    assert every[1] == every[2]
    assert every[0] != every[1]
    assert every[0] == pytest.approx(every[1], rel=0.8)


@pytest.mark.parametrize("shape", SHAPES)
def test_features_that_say_nothing_give_the_mean(shape: tuple[int, int]):
    targets = problem(*shape)[1]
    for features in (torch.zeros(*shape, dtype=torch.float64), torch.full(shape, 3.0, dtype=torch.float64)):
        ridge = fit_ridge(features, targets)
        torch.testing.assert_close(ridge.predict(features), targets.mean(dim=0).expand_as(targets))


def test_where_nothing_is_left_to_fit_the_guess_is_the_one_target():
    features, targets = problem(1, 5)
    ridge = fit_ridge(features, targets)
    torch.testing.assert_close(ridge.predict(problem(4, 5, seed=1)[0]), targets.expand(4, -1))


def test_an_infinite_strength_is_the_mean_and_noise_chooses_nearly_that():
    features, targets = problem(200, 30)
    noise = torch.randn(200, 30, generator=Seeds(3)("noise"), dtype=torch.float64)
    mean = fit_ridge(features, targets, (float("inf"),))
    torch.testing.assert_close(mean.predict(features), targets.mean(dim=0).expand_as(targets))
    assert fit_ridge(noise, targets).strength >= 1
    assert STRENGTHS[-1] == float("inf")


def test_targets_fitted_together_are_as_if_fitted_alone():
    features, targets = problem(12, 40)
    easy, hard = fit_ridges(features, (targets, torch.randn(12, 2, generator=Seeds(0)("hard")).double()))
    alone = fit_ridge(features, targets)
    assert easy.strength == alone.strength
    torch.testing.assert_close(easy.weight, alone.weight)
    assert hard.strength > easy.strength


def test_single_precision_targets_get_a_single_precision_fit():
    features, targets = problem(60, 7)
    single, double = fit_ridge(features.float(), targets.float()), fit_ridge(features, targets)
    assert single.weight.dtype == torch.float32
    torch.testing.assert_close(single.weight.double(), double.weight, rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(strategies.integers(3, 25), strategies.integers(1, 25), strategies.integers(0, 99))
def test_stronger_regularisation_never_fits_the_rows_better(rows: int, features: int, seed: int):
    inputs, targets = problem(rows, features, seed=seed)
    fits = [fit_ridge(inputs, targets, (strength,)).predict(inputs) for strength in (*FINITE, float("inf"))]
    losses = [(fit - targets).square().sum().item() for fit in fits]
    assert all(weak <= strong + 1e-9 for weak, strong in pairwise(losses))


def test_fewer_rows_than_outputs_predict_without_weights_what_weights_would():
    features, _ = problem(12, 40)
    targets = torch.randn(12, 15, generator=Seeds(0)("targets"), dtype=torch.float64)
    for strength in (1e-10, *FINITE, float("inf")):
        ridge = fit_ridge(features, targets, (strength,))
        others = problem(9, 40, seed=1)[0]
        predicted = ridge.predict(others)
        assert "weight" not in vars(ridge)
        torch.testing.assert_close(predicted, others @ ridge.weight + ridge.intercept, rtol=1e-6, atol=1e-6)
    single = fit_ridge(features.float(), targets.float(), (1e-10,)).predict(features.float())
    torch.testing.assert_close(single, targets.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outputs", [3, 70])
def test_what_fits_without_each_row_say_of_it(shape: tuple[int, int], outputs: int):
    features, _ = problem(*shape)
    targets = features[:, :1] + torch.randn(shape[0], outputs, generator=Seeds(0)("targets"), dtype=torch.float64)
    residuals = left_out_residuals(fit_ridge(features, targets, (0.01,)), features, targets)
    for row in (0, 3, shape[0] - 1):
        kept = torch.arange(shape[0]) != row
        reference = Reference(alpha=0.01 * largest(features)).fit(features[kept], targets[kept])
        np.testing.assert_allclose((targets - residuals)[row], reference.predict(features[[row]])[0], atol=1e-8)


def test_without_a_row_the_mean_is_that_of_the_others():
    targets = torch.tensor([[1.0], [2.0], [6.0]])
    residuals = left_out_residuals(fit_ridge(torch.ones(3, 5), targets), torch.ones(3, 5), targets)
    torch.testing.assert_close(targets - residuals, torch.tensor([[4.0], [3.5], [1.5]]))
