"""Solvers against scikit-learn's dense lasso, the conditions of its solution, and the published dynamics."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from sklearn.linear_model import Lasso as Reference
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics import parts
from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.numerics.fista import Fista
from fedsplit.numerics.lasso import Lasso, Solver
from fedsplit.numerics.lca import Lca
from fedsplit.numerics.phantoms import phantoms
from fedsplit.numerics.sparse import SOLVERS
from fedsplit.numerics.spectral import Spectral
from fedsplit.seeding import Seeds
from tests.numerics.unrolled import unrolled

EXACT = Fista(tolerance=1e-11, iterations=5000)
DESCENTS = [Fista, Spectral]
descents = pytest.mark.parametrize("descent", DESCENTS)
WHOLE = strategies.integers


def problem(
    channels: int = 1,
    features: int = 4,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    lambda_: float = 0.5,
    nonnegative: bool = True,
    size: tuple[int, int] = (8, 8),
    count: int = 2,
    seed: int = 0,
) -> Lasso:
    rng = Seeds(seed)("problem")
    atoms = normalised(torch.randn(features, channels, kernel, kernel, generator=rng, dtype=torch.float64))
    images = torch.randn(count, channels, *size, generator=rng, dtype=torch.float64)
    dictionary = Dictionary(atoms, size, stride, padding)
    return Lasso(images, dictionary, lambda_, nonnegative, dictionary.bound())


PROBLEMS = {
    "same": problem(padding=1),
    "valid": problem(),
    "three channels": problem(channels=3, padding=1),
    "strided": problem(features=6, kernel=5, stride=2, padding=2),
    "strided, valid, odd": problem(features=6, stride=2, size=(9, 7)),
    "even kernel": problem(features=6, kernel=4, stride=2, channels=3),
    "signed": problem(padding=1, nonnegative=False, lambda_=0.8),
    "signed, strided, three channels": problem(channels=3, kernel=5, stride=2, padding=2, nonnegative=False),
}
problems = pytest.mark.parametrize("lasso", PROBLEMS.values(), ids=PROBLEMS)


def scikit_learns(lasso: Lasso) -> Tensor:
    """Its objective is 1 / (2 pixels) of the error, plus alpha times the norm."""
    matrix = unrolled(lasso.dictionary).numpy()
    reference = Reference(
        alpha=lasso.lambda_ / len(matrix),
        positive=lasso.nonnegative,
        fit_intercept=False,
        tol=1e-13,
        max_iter=200_000,
    )
    codes = [reference.fit(matrix, image.flatten().numpy()).coef_ for image in lasso.images]
    return torch.from_numpy(np.stack(codes)).view(len(codes), *lasso.dictionary.codes)


@problems
def test_four_ways_to_the_same_codes(lasso: Lasso):
    reference = scikit_learns(lasso)
    assert 0.02 < (reference != 0).double().mean() < 0.5
    if not lasso.nonnegative:
        assert (reference < 0).any()
    for descent in DESCENTS:
        solution = descent(tolerance=1e-11, iterations=5000).solve(lasso)
        torch.testing.assert_close(solution.codes, reference, rtol=0, atol=1e-6)
        assert (solution.gap <= 1e-11).all()
    dynamics = Lca(tau=lasso.bound / 1.5, steps=4000)
    torch.testing.assert_close(dynamics.solve(lasso).codes, reference, rtol=0, atol=1e-6)


@problems
def test_no_atom_explains_more_than_lambda_of_what_is_left_and_active_ones_exactly_that(lasso: Lasso):
    codes = EXACT.solve(lasso).codes
    matrix = unrolled(lasso.dictionary)
    left = (lasso.images.flatten(1) - codes.flatten(1) @ matrix.T) @ matrix
    if lasso.nonnegative:
        assert (codes >= 0).all()
    active = codes.flatten(1) != 0
    assert active.any()
    pull = left if lasso.nonnegative else left.abs()
    assert pull[~active].max() <= lasso.lambda_ + 1e-6
    expected = lasso.lambda_ * codes.flatten(1).sign()
    torch.testing.assert_close(left[active], expected[active], rtol=0, atol=1e-5)


@problems
def test_the_objective_is_its_definition(lasso: Lasso):
    codes = EXACT.solve(lasso).codes.flatten(1)
    error = lasso.images.flatten(1) - codes @ unrolled(lasso.dictionary).T
    expected = 0.5 * error.square().sum(1) + lasso.lambda_ * codes.abs().sum(1)
    torch.testing.assert_close(lasso.objective(codes.view(-1, *lasso.dictionary.codes)), expected)


@strategies.composite
def drawn(draw: strategies.DrawFn) -> Lasso:
    return problem(
        channels=draw(WHOLE(1, 2)),
        stride=draw(WHOLE(1, 2)),
        padding=draw(WHOLE(0, 1)),
        lambda_=draw(strategies.floats(0.05, 1.5)),
        nonnegative=draw(strategies.booleans()),
        size=(draw(WHOLE(5, 8)), 6),
        seed=draw(WHOLE(0, 100)),
    )


@settings(max_examples=15)
@given(lasso=drawn(), iterations=WHOLE(1, 25), tolerance=strategies.sampled_from([0.0, 1e-2]))
def test_after_any_number_of_iterations_the_gap_is_above_what_is_missing(
    lasso: Lasso, iterations: int, tolerance: float
):
    least = lasso.objective(EXACT.solve(lasso).codes)
    solvers = (Fista(tolerance, iterations), Spectral(tolerance, iterations), Lca(tau=10, steps=iterations))
    for solver in solvers:
        solution = solver.solve(lasso)
        objective = lasso.objective(solution.codes)
        missing = (objective - least) / objective
        assert (solution.gap >= missing - 1e-9).all()
        assert (lasso.gap(solution.codes) >= missing - 1e-9).all()
        assert (solution.gap <= 1).all()


@settings(max_examples=10)
@given(lasso=drawn(), seed=WHOLE(0, 100))
def test_the_gap_of_any_codes_is_above_what_is_missing(lasso: Lasso, seed: int):
    codes = torch.randn(2, *lasso.dictionary.codes, generator=Seeds(seed)("codes"), dtype=torch.float64)
    codes = codes.relu() if lasso.nonnegative else codes
    objective, least = lasso.objective(codes), lasso.objective(EXACT.solve(lasso).codes)
    assert (lasso.gap(codes) >= (objective - least) / objective).all()


@descents
@problems
def test_the_reported_gap_is_that_of_the_codes(lasso: Lasso, descent: type[Fista | Spectral]):
    dynamics = Lca(tau=10, steps=60).solve(lasso)
    torch.testing.assert_close(dynamics.gap, lasso.gap(dynamics.codes))
    # A descent's is of the point that it started its last iteration from, or a better one before.
    solution = descent(tolerance=1e-4).solve(lasso)
    assert (solution.gap <= 1e-4).all()
    assert (lasso.gap(solution.codes) <= 1e-3).all()


@descents
@settings(max_examples=15)
@given(lasso=drawn(), iterations=WHOLE(1, 30))
def test_no_codes_are_worse_than_none(descent: type[Fista | Spectral], lasso: Lasso, iterations: int):
    codes = descent(0.0, iterations).solve(lasso).codes
    assert (lasso.objective(codes) <= lasso.objective(torch.zeros_like(codes)) + 1e-12).all()


@pytest.mark.parametrize("nonnegative", [True, False], ids=["nonnegative", "signed"])
def test_no_spectral_step_leads_uphill(nonnegative: bool):
    # At so low a price a step as long as the last curvature allows would, now and then, double the objective.
    lasso = problem(features=12, padding=1, lambda_=0.1, nonnegative=nonnegative)
    objectives = [lasso.objective(Spectral(0.0, iterations).solve(lasso).codes) for iterations in range(1, 31)]
    for before, after in pairwise(objectives):
        assert (after <= before * (1 + 1e-12)).all()


@descents
@problems
def test_more_iterations_come_closer(lasso: Lasso, descent: type[Fista | Spectral]):
    objectives = [lasso.objective(descent(0.0, iterations).solve(lasso).codes) for iterations in (5, 20, 400)]
    assert (objectives[0] > objectives[1]).all()
    assert (objectives[1] > objectives[2]).all()


@problems
def test_through_every_iteration_to_the_same_codes(lasso: Lasso):
    for descent in DESCENTS:
        torch.testing.assert_close(descent(0.0, 600).unrolled(lasso), EXACT.solve(lasso).codes, rtol=0, atol=1e-6)
    few = Spectral(0.0, 12)
    torch.testing.assert_close(few.unrolled(lasso), few.solve(lasso).codes, rtol=0, atol=1e-9)
    dynamics = Lca(tau=10, steps=40)
    assert torch.equal(dynamics.unrolled(lasso), dynamics.solve(lasso).codes)


@descents
@problems
def test_from_the_solution_there_is_nothing_left_to_do(lasso: Lasso, descent: type[Fista | Spectral]):
    solver = descent(tolerance=1e-6)
    solution = EXACT.solve(lasso)
    again = solver.solve(lasso, solution.codes)
    first_check = descent(tolerance=1.0).solve(lasso).iterations
    assert (solver.solve(lasso).iterations > first_check).all()
    assert torch.equal(again.iterations, first_check)
    torch.testing.assert_close(again.codes, solution.codes, rtol=0, atol=1e-6)
    dynamics = Lca(tau=10, steps=20).solve(lasso, solution.codes)
    torch.testing.assert_close(dynamics.codes, solution.codes, rtol=0, atol=1e-6)


def mixed(dtype: torch.dtype = torch.float64) -> Lasso:
    """Four faint images, which need little more than zeros, before four strong ones."""
    lasso = problem(padding=1, lambda_=0.3, count=8)
    scale = torch.tensor([0.22] * 4 + [1.0] * 4, dtype=torch.float64)[:, None, None, None]
    dictionary = Dictionary(lasso.dictionary.atoms.to(dtype), lasso.dictionary.size, 1, 1)
    return Lasso((scale * lasso.images).to(dtype), dictionary, 0.3, True, lasso.bound)


@descents
def test_an_easy_sample_is_done_before_a_hard_one(descent: type[Fista | Spectral]):
    solution = descent(tolerance=1e-5).solve(mixed())
    assert (solution.gap <= 1e-5).all()
    assert (solution.iterations > 0).all()
    easy, hard = solution.iterations.double().split(4)
    assert 2 * easy.mean() < hard.mean()
    assert easy.min() < hard.min()
    assert easy.max() < hard.max()


@descents
@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_a_samples_codes_do_not_depend_on_its_batch(descent: type[Fista | Spectral], tolerance: float):
    lasso = mixed()
    solver = descent(tolerance)
    together = solver.solve(lasso)
    alone = [solver.solve(lasso.at(torch.tensor([row]))) for row in range(8)]
    torch.testing.assert_close(together.codes, torch.cat([one.codes for one in alone]), rtol=0, atol=1e-9)
    assert torch.equal(together.iterations, torch.cat([one.iterations for one in alone]))
    assert len(together.iterations.unique()) > 3


def test_spectral_steps_need_fewer_iterations_to_a_coarse_gap_than_momentum():
    images, _ = phantoms(24, (1, 32, 32), 3, Seeds(0)("images"))
    atoms = normalised(torch.randn(12, 1, 5, 5, generator=Seeds(0)("atoms")))
    dictionary = Dictionary(atoms, (32, 32), 1, 2)
    lasso = Lasso((images - images.mean()) / images.std(), dictionary, 0.5, True, dictionary.bound())
    momentum, spectral = (solver(tolerance=0.2).solve(lasso).iterations.double().mean() for solver in DESCENTS)
    assert spectral < 0.75 * momentum


def test_samples_come_back_in_their_order():
    lasso = mixed()
    solution = EXACT.solve(lasso)
    shuffled = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    torch.testing.assert_close(EXACT.solve(lasso.at(shuffled)).codes, solution.codes[shuffled], rtol=0, atol=1e-6)


def test_more_samples_than_are_worked_on_together(monkeypatch: pytest.MonkeyPatch):
    lasso = mixed()
    whole = EXACT.solve(lasso)
    bytes_of_three = 3 * whole.codes[0].numel() * 8
    monkeypatch.setattr(parts, "_CACHED_BYTES", bytes_of_three)
    in_parts = EXACT.solve(lasso)
    torch.testing.assert_close(in_parts.codes, whole.codes, rtol=0, atol=1e-9)
    assert in_parts.gap.shape == (8,)
    assert torch.equal(in_parts.iterations, whole.iterations)


@descents
def test_float32_reaches_the_gap_that_it_reports(descent: type[Fista | Spectral]):
    lasso = mixed(torch.float32)
    solution = descent(tolerance=1e-4).solve(lasso)
    assert solution.codes.dtype == torch.float32
    assert (solution.gap <= 1e-4).all()
    least = mixed().objective(EXACT.solve(mixed()).codes)
    torch.testing.assert_close(lasso.objective(solution.codes).double(), least, rtol=1.1e-4, atol=0)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("nonnegative", [True, False])
def test_an_image_of_zeros_has_codes_of_zeros_and_no_gap(solver: Solver, nonnegative: bool):
    lasso = problem(padding=1, nonnegative=nonnegative)
    lasso.images[1] = 0
    solution = solver.solve(lasso)
    assert (solution.codes[1] == 0).all()
    assert solution.gap[1] == 0
    assert (solution.codes[0] != 0).any()


@descents
def test_what_is_not_a_number_is_never_called_solved(descent: type[Fista | Spectral]):
    lasso = problem(padding=1)
    lasso.images[1, 0, 0, 0] = math.nan
    solution = descent(iterations=50).solve(lasso)
    assert not solution.gap[1] <= 1
    assert solution.gap[0] <= 1


def published(lasso: Lasso, tau: float, steps: int) -> Tensor:
    """The loop as it was published: threshold first, and the codes of before the last update."""
    atoms, stride, padding = lasso.dictionary.atoms, lasso.dictionary.stride, lasso.dictionary.padding
    kernel = atoms.shape[-1]
    if kernel % 2:
        reach = (kernel - 1) // stride * stride
    else:
        reach = kernel - stride if kernel % stride == 0 else kernel // stride * stride
    drive = F.conv2d(lasso.images, atoms, stride=stride, padding=padding)
    gram = F.conv2d(atoms, atoms, stride=stride, padding=reach)
    for feature in range(len(atoms)):
        gram[feature, feature, gram.shape[-1] // 2, gram.shape[-1] // 2] = 0
    potential = torch.zeros_like(drive)
    codes = torch.zeros_like(drive)
    for _ in range(steps):
        codes = F.relu(potential - lasso.lambda_)
        if not lasso.nonnegative:
            codes = codes - F.relu(-potential - lasso.lambda_)
        inhibition = F.conv2d(codes, gram, padding=math.ceil((gram.shape[-1] - 1) / 2))
        potential = potential + (1 / tau) * (drive - potential - inhibition)
    return codes


DYNAMICS = {
    "same 5": problem(kernel=5, padding=2, size=(10, 12)),
    "valid 5": problem(kernel=5, size=(10, 12)),
    "same 7": problem(kernel=7, padding=3, size=(10, 12)),
    "valid 7": problem(kernel=7, size=(12, 12)),
    "same 7 strided": problem(kernel=7, stride=2, padding=3, size=(12, 12)),
    "valid 7 strided": problem(kernel=7, stride=2, size=(13, 13)),
    "valid 8 strided": problem(kernel=8, stride=2, size=(14, 14)),
    "same 5, three channels, signed": problem(channels=3, kernel=5, padding=2, size=(10, 12), nonnegative=False),
}


@pytest.mark.parametrize("lasso", DYNAMICS.values(), ids=DYNAMICS)
@pytest.mark.parametrize("steps", [1, 2, 60])
def test_dynamics_with_the_gram_tensor_are_the_published_ones(lasso: Lasso, steps: int):
    codes = Lca(tau=20.0, steps=steps, gram=True).solve(lasso).codes
    torch.testing.assert_close(codes, published(lasso, 20.0, steps), rtol=0, atol=1e-10)
    assert bool((codes != 0).any()) == (steps == 60)


def test_published_dynamics_in_float32():
    lasso = problem(kernel=5, padding=2, size=(10, 12))
    single = Dictionary(lasso.dictionary.atoms.float(), (10, 12), 1, 2)
    codes = Lca(gram=True).solve(Lasso(lasso.images.float(), single, 0.5, True, lasso.bound)).codes
    torch.testing.assert_close(codes.double(), published(lasso, 100.0, 500), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["valid 5", "valid 7", "valid 7 strided", "valid 8 strided"])
def test_without_borders_inhibition_through_the_residual_is_that_of_the_gram_tensor(name: str):
    lasso = DYNAMICS[name]
    through_gram, through_residual = (Lca(tau=20, steps=60, gram=gram).solve(lasso).codes for gram in (True, False))
    torch.testing.assert_close(through_gram, through_residual, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["same 5", "same 7", "same 7 strided"])
def test_at_borders_only_the_residual_knows_the_objective(name: str):
    lasso = DYNAMICS[name]
    through_gram, through_residual = (Lca(tau=20, steps=600, gram=gram).solve(lasso).codes for gram in (True, False))
    assert (lasso.objective(through_residual) < 0.999 * lasso.objective(through_gram)).all()
    torch.testing.assert_close(lasso.objective(through_residual), lasso.objective(EXACT.solve(lasso).codes), rtol=1e-5,
                               atol=0)  # fmt: skip


def test_dynamics_take_the_steps_they_are_told():
    assert Lca(steps=7).solve(problem()).iterations.tolist() == [7, 7]
