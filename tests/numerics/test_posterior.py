"""Posterior means against the textbook formula."""

from functools import partial

import pytest
import torch
from torch import Tensor

from fedsplit.numerics import posterior
from fedsplit.numerics.active_set import conjugate_gradients
from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.pixel_posterior import from_correlations
from fedsplit.numerics.posterior import from_few_planes, from_planes, from_rows
from fedsplit.numerics.priors import FactorPrior, PlanePrior, factor_prior, stationary_prior, white_prior
from fedsplit.seeding import Seeds


def normal(*shape: int, name: str = "inputs") -> Tensor:
    return torch.randn(*shape, generator=Seeds(0)(name), dtype=torch.float64)


def textbook(matrix: Tensor, observed: Tensor, precision: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """One sample: the mean of x ~ N(mean, covariance) given observed = matrix x + noise."""
    own = torch.linalg.inv(covariance)
    system = matrix.T @ (precision[:, None] * matrix) + own
    return torch.linalg.solve(system, matrix.T @ (precision * observed) + own @ mean)


@pytest.mark.parametrize("outputs", [3, 12])
def test_rows(outputs: int):
    prior = FactorPrior(normal(4, 6, name="mean"), normal(9, 6, name="factor"), 0.3)
    weight, observed = normal(outputs, 6, name="weight"), normal(5, 4, outputs, name="observed")
    precision = 2.0 * (normal(5, 4, outputs, name="known") > 0).double()
    found = from_rows(weight, observed, precision, prior)
    for sample in range(5):
        for site in range(4):
            expected = textbook(
                weight, observed[sample, site], precision[sample, site], prior.mean[site], prior.covariance()
            )
            torch.testing.assert_close(found[sample, site], expected, rtol=1e-8, atol=1e-8)


def dictionary(channels: int = 1) -> Dictionary:
    return Dictionary(normal(5, channels, 3, 3, name="atoms") / 3, (6, 6), 1, 1)


def matrix(about: Dictionary) -> Tensor:
    """The correlations with all atoms, (codes, pixels)."""
    count = about.atoms.shape[1] * 36
    return about.correlate(torch.eye(count, dtype=torch.float64).view(count, -1, 6, 6)).flatten(1).T


def test_pixels_from_correlations():
    about = dictionary()
    prior = factor_prior(normal(50, 36, name="samples"))
    correlations, active = normal(3, 5, 6, 6, name="correlations"), normal(3, 5, 6, 6, name="active") > 1
    found = from_correlations(about, correlations, active, (0.01, 2.0), prior)
    for own, seen, some in zip(active, correlations, found, strict=True):
        precision = torch.where(own.flatten(), 100.0, 0.5).double()
        expected = textbook(matrix(about), seen.flatten(), precision, prior.mean, prior.covariance())
        torch.testing.assert_close(some.flatten(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("make", [white_prior, stationary_prior])
def test_planes(make):
    about, samples = dictionary(2), normal(40, 2, 6, 6, name="samples")
    prior = make(samples)
    roots = prior.coloured(torch.eye(72, dtype=torch.float64).view(72, 2, 6, 6)).flatten(1)
    observed = normal(3, 5, 6, 6, name="observed")
    precision = 3.0 * (normal(3, 5, 6, 6, name="known") > 0).double()
    found = from_planes(about, observed, precision, prior, 1e-12)
    for seen, precise, some in zip(observed, precision, found, strict=True):
        expected = textbook(matrix(about), seen.flatten(), precise.flatten(), prior.mean.flatten(), roots @ roots.T)
        torch.testing.assert_close(some.flatten(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [white_prior, stationary_prior])
def test_planes_that_few_observations_tell_of(make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(posterior, "_FEW_TOLERANCE", 1e-6)
    about, samples = dictionary(4), normal(40, 4, 6, 6, name="samples")
    prior = make(samples)
    roots = prior.coloured(torch.eye(144, dtype=torch.float64).view(144, 4, 6, 6)).flatten(1)
    observed = normal(3, 5, 6, 6, name="observed")
    precision = 3.0 * (normal(3, 5, 6, 6, name="known") > 0.5).double()
    found = from_few_planes(about, observed, precision, prior)
    for seen, precise, some in zip(observed, precision, found, strict=True):
        expected = textbook(matrix(about), seen.flatten(), precise.flatten(), prior.mean.flatten(), roots @ roots.T)
        torch.testing.assert_close(some.flatten(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_too_precise_for_a_prior_is_taken_for_less():
    about, samples = dictionary(4), normal(40, 4, 6, 6, name="samples")
    prior, observed = stationary_prior(samples), normal(3, 5, 6, 6, name="observed")
    precise, sure = (torch.full_like(observed, value) for value in (100 / float(observed.var()), 1e13))
    found = from_few_planes(about, observed, sure, prior)
    torch.testing.assert_close(found, from_few_planes(about, observed, precise, prior))


def test_observations_that_are_all_alike_are_no_fault():
    about, prior = dictionary(4), white_prior(normal(40, 4, 6, 6, name="samples"))
    alike = torch.full((2, 5, 6, 6), 0.5, dtype=torch.float64)
    assert from_few_planes(about, alike, torch.full_like(alike, 2.0), prior).isfinite().all()


def test_where_half_is_open_what_images_are_like_tells_more_than_that_places_are_apart():
    def smooth(name: str) -> Tensor:
        planes = normal(200, 4, 10, 10, name=name)
        return sum((planes.roll((down, right), dims=(2, 3)) for down in range(3) for right in range(3)), planes * 0)

    samples, truth = smooth("samples"), smooth("truth")[:20]
    about = Dictionary(normal(2, 4, 3, 3, name="atoms") / 3, (10, 10), 1, 1)
    seen = about.correlate(truth)
    precision = torch.full_like(seen, 1e9)

    def error(prior: PlanePrior) -> float:
        found = from_few_planes(about, seen, precision, prior)
        return float((found - truth).square().mean() / truth.var())

    assert error(stationary_prior(samples)) < 0.8 * error(white_prior(samples)) < 0.5


@pytest.mark.parametrize("make", [white_prior, stationary_prior])
def test_a_covariance_is_its_root_twice(make):
    prior, planes = make(normal(40, 2, 6, 6, name="samples")), normal(3, 2, 6, 6)
    torch.testing.assert_close(prior.spread(planes), prior.coloured(prior.coloured(planes)))


def test_few_products_are_enough_where_places_differ_little(monkeypatch: pytest.MonkeyPatch):
    atoms = normal(12, 6, 5, 5, name="atoms") * torch.logspace(-1.5, 0, 6, dtype=torch.float64)[None, :, None, None]
    about = Dictionary(atoms, (20, 20), 1, 2)
    truth = normal(2, 6, 20, 20, name="truth")
    counts: dict[bool, int] = {True: 0, False: 0}

    def counted(product, right, tolerance, iterations, inverse):
        def counting(planes: Tensor, *, eased: bool) -> Tensor:
            counts[eased] += 1
            return product(planes)

        conjugate_gradients(partial(counting, eased=False), right, tolerance, iterations)
        return conjugate_gradients(partial(counting, eased=True), right, tolerance, iterations, inverse=inverse)

    monkeypatch.setattr(posterior, "conjugate_gradients", counted)
    seen = about.correlate(truth)
    found = from_planes(about, seen, torch.full_like(seen, 1e6), white_prior(truth), 1e-9)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-2)
    assert counts[True] < counts[False] / 3


def test_a_stationary_prior_has_the_covariance_of_what_is_stationary():
    white = normal(4000, 1, 8, 8)
    samples = white + 0.7 * white.roll(1, dims=3)
    prior = stationary_prior(samples)
    coloured = prior.coloured(normal(4000, 1, 8, 8, name="other"))
    for lag, expected in ((0, 1.49), (1, 0.7), (2, 0.0)):
        assert (coloured * coloured.roll(lag, dims=3)).mean().item() == pytest.approx(expected, abs=0.03)


def test_a_prior_of_few_samples_is_shrunk_towards_an_even_one():
    few, many = factor_prior(normal(8, 40)), factor_prior(normal(4000, 40))
    even = torch.eye(40, dtype=torch.float64)
    torch.testing.assert_close(many.covariance(), even, rtol=0, atol=0.12)
    assert (few.covariance() - even).square().mean() < 0.2 * (normal(8, 40).T.cov() - even).square().mean()
    torch.testing.assert_close(few.precision(), torch.linalg.inv(few.covariance()))
