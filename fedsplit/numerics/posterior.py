"""The mean of a Gaussian unknown, given linear observations of it that differ in precision from sample to sample."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedsplit.numerics.active_set import conjugate_gradients
from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.priors import FactorPrior, PlanePrior
from fedsplit.numerics.products import products
from fedsplit.numerics.torus import filtered, inverted, symbol_of

_ROWS = 8192
_ITERATIONS = 150
_RESTARTS = 6
_FEW_ITERATIONS = 300
_FEW_TOLERANCE = 0.05
_LEAST_NOISE = 1e-2
_SAMPLES = 32
_INNER_TOLERANCE = 1e-4
_RELATIVE_RIDGE = 1e-13
_REFINEMENTS = 2


def from_rows(weight: Tensor, observed: Tensor, precision: Tensor, prior: FactorPrior) -> Tensor:
    """For every sample and site, the x of observed = weight x + noise: (n, sites, outputs) -> (n, sites, inputs).

    weight: (outputs, inputs). precision: (n, sites, outputs), one over the noise's variance; zero where an entry tells
    nothing. Solved in the smaller of the two spaces.
    """
    mean = prior.mean.expand(observed.shape[1], -1)
    rest = (observed - mean @ weight.T).flatten(0, 1)
    solve = _in_inputs if weight.shape[0] > weight.shape[1] else _in_outputs
    solved = solve(weight, rest, precision.flatten(0, 1), prior)
    return solved.view(*observed.shape[:2], -1) + mean


def _in_inputs(weight: Tensor, rest: Tensor, precision: Tensor, prior: FactorPrior) -> Tensor:
    own = prior.precision()
    outer = (weight[:, :, None] * weight[:, None, :]).flatten(1)
    solutions: list[Tensor] = []
    for some, precise in zip(rest.split(_ROWS), precision.split(_ROWS), strict=True):
        # Scaled, so that what is precise to rounding and what is not have numbers of one size.
        largest = precise.amax(dim=1, keepdim=True)
        scale = torch.where(largest > 0, largest, 1.0)
        relative = precise / scale
        gram = (relative @ outer).view(-1, *own.shape)
        least = _RELATIVE_RIDGE * gram.diagonal(dim1=1, dim2=2).mean(dim=1) / own.diagonal().mean()
        ridge = torch.maximum(1 / scale[:, 0], least)
        lower = torch.linalg.cholesky(gram + ridge[:, None, None] * own)
        solution = _solved(lower, (relative * some) @ weight)
        exact = (1 / scale < least[:, None]).to(solution)
        for _ in range(_REFINEMENTS):
            # The least ridge is there for the factorisation alone; where observations suffice this takes it out.
            left = (relative * (some - solution @ weight.T)) @ weight
            solution = solution + exact * _solved(lower, left)
        solutions.append(solution)
    return torch.cat(solutions)


def _solved(lower: Tensor, right: Tensor) -> Tensor:
    # Two triangular systems: for many small ones much quicker than torch's own solution from Cholesky factors.
    half = torch.linalg.solve_triangular(lower, right[..., None], upper=False)
    return torch.linalg.solve_triangular(lower.mT, half, upper=True)[..., 0]


def _in_outputs(weight: Tensor, rest: Tensor, precision: Tensor, prior: FactorPrior) -> Tensor:
    spread = prior.spread(weight)
    covariance = spread @ weight.T
    identity = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    least = _RELATIVE_RIDGE * covariance.diagonal().mean()
    rows = max(1, _ROWS * 100 // len(weight) ** 2 + 1)
    solutions: list[Tensor] = []
    for some, precise in zip(rest.split(rows), precision.split(rows), strict=True):
        known = (precise > 0).to(some)
        noise = torch.where(precise > 0, 1 / precise, 1.0).maximum(least)
        system = known[:, :, None] * covariance * known[:, None, :] + noise[:, :, None] * identity
        lower = torch.linalg.cholesky(system)
        solutions.append(_solved(lower, known * some) @ spread)
    return torch.cat(solutions)


@torch.no_grad()
def from_planes(
    dictionary: Dictionary, observed: Tensor, precision: Tensor, prior: PlanePrior, tolerance: float
) -> Tensor:
    """For every sample, the images x of observed = D'x + noise: (n, *codes) -> (n, channels, height, width).

    precision: (n, *codes) as for `from_rows`. tolerance: of the equations' residual, relative. By conjugate gradients
    in float32, each time for what is left over in float64; what they cannot resolve stays as the prior has it.
    """
    scale = float(precision.max())
    system = _System(dictionary, prior, scale)
    # As if every place were as well known as places are on average, and had others all around.
    usual = precision.mean(dim=(0, 2, 3), keepdim=True) / scale
    channels, height, width = prior.mean.shape
    symbol = symbol_of(lambda planes: system.product(planes, usual), (channels, height, width), dictionary.atoms)
    inverse = partial(filtered, symbol=inverted(symbol).to(torch.complex64))
    parts = zip(observed.split(_SAMPLES), precision.split(_SAMPLES), strict=True)
    white = [system.solved(some, precise / scale, inverse, tolerance) for some, precise in parts]
    return prior.mean + prior.coloured(torch.cat(white))


@torch.no_grad()
def from_few_planes(dictionary: Dictionary, observed: Tensor, precision: Tensor, prior: PlanePrior) -> Tensor:
    """`from_planes` where observations leave much open: solved in their space, in float32, with no inverse in front.

    There is no direction of which the prior alone decides, as there are many among the images: an inverse of those
    would have to be exact. What is taken for more precise than a hundredth of the observations' variance is taken for
    no more than that, for a prior is never that true.
    """
    fast = products(replace(dictionary, atoms=dictionary.atoms.float()))
    weight = precision.clamp(max=1 / (_LEAST_NOISE * observed.var())).sqrt()
    rest = weight * (observed - dictionary.correlate(prior.mean[None]))

    def solved(own: Tensor, right: Tensor) -> Tensor:
        def product(own: Tensor, seen: Tensor) -> Tensor:
            return fast.correlate(prior.spread(fast.synthesise(own * seen))).mul_(own).add_(seen)

        seen = conjugate_gradients(
            partial(product, own),
            right,
            _FEW_TOLERANCE,
            _FEW_ITERATIONS,
            narrowed=lambda rows: partial(product, fast.arrange(own[rows])),
        )
        return prior.spread(fast.synthesise(own * seen))

    arranged = (fast.arrange(tensor.float()) for tensor in (weight, rest))
    parts = zip(*(tensor.split(_SAMPLES) for tensor in arranged), strict=True)
    return prior.mean + torch.cat([solved(own, right) for own, right in parts]).double()


@dataclass(frozen=True)
class _System:
    """The equations of the whitened unknown, divided by `scale`."""

    dictionary: Dictionary
    prior: PlanePrior
    scale: float

    def product(self, white: Tensor, precision: Tensor) -> Tensor:
        """Their left side, in the precision of `white`."""
        atoms = self.dictionary.atoms.to(white)
        own, coloured = replace(self.dictionary, atoms=atoms), self.prior.coloured
        seen = precision.to(white) * own.correlate(coloured(white))
        return coloured(own.synthesise(seen)).add_(white, alpha=1 / self.scale)

    def solved(
        self, observed: Tensor, precision: Tensor, inverse: Callable[[Tensor], Tensor], tolerance: float
    ) -> Tensor:
        """inverse: about that of the product, in float32."""
        single = precision.float()
        rest = precision * (observed - self.dictionary.correlate(self.prior.mean[None]))
        left = right = self.prior.coloured(self.dictionary.synthesise(rest))
        found, goal = torch.zeros_like(right), tolerance * torch.linalg.vector_norm(right)
        for _ in range(_RESTARTS):
            size = left.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(left.dtype).tiny)
            step = conjugate_gradients(
                lambda white: self.product(white, single),
                (left / size).float(),
                _INNER_TOLERANCE,
                _ITERATIONS,
                inverse=inverse,
            )
            found = found + size * step.double()
            left = right - self.product(found, precision)
            if torch.linalg.vector_norm(left) <= goal:
                break
        return found
