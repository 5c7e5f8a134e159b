"""The dynamics of the locally competitive algorithm (Rozell, Johnson, Baraniuk and Olshausen, Neural Computation
2008)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.lasso import Lasso, Solution


@dataclass(frozen=True)
class Lca:
    """Leaky units that inhibit each other: u += (D'x - u - inhibition) / tau, codes = threshold(u), threshold first.

    As published, the codes are those before the last update of u, and nothing is tested for convergence.
    """

    tau: float = 100.0
    steps: int = 500
    gram: bool = False
    """Whether units inhibit each other through the atoms' correlations, as published. Where images are padded, those
    ignore the border, and the codes solve another problem; through the residual they solve this one."""

    def solve(self, lasso: Lasso, start: Tensor | None = None) -> Solution:
        """Runs all steps for every sample."""
        with torch.no_grad():
            codes = self._codes(lasso, start)
            spent = torch.full((len(codes),), self.steps, dtype=torch.long, device=codes.device)
            return Solution(codes, lasso.gap(codes), spent)

    def unrolled(self, lasso: Lasso) -> Tensor:
        """The same, step by step in the graph."""
        return self._codes(lasso, None)

    def _codes(self, lasso: Lasso, start: Tensor | None) -> Tensor:
        drive = lasso.dictionary.correlate(lasso.images)
        inhibition = _lateral(lasso.dictionary) if self.gram else lambda codes: _through_images(lasso, codes)
        # A unit above threshold holds its code and the threshold on top.
        potential = torch.zeros_like(drive) if start is None else start + lasso.lambda_ * start.sign()
        codes = lasso.shrink(potential, lasso.lambda_)
        for _ in range(self.steps - 1):
            potential = potential + (drive - potential - inhibition(codes)) / self.tau
            codes = lasso.shrink(potential, lasso.lambda_)
        return codes


def _through_images(lasso: Lasso, codes: Tensor) -> Tensor:
    return lasso.dictionary.correlate(lasso.dictionary.synthesise(codes)) - codes


def _lateral(dictionary: Dictionary) -> Callable[[Tensor], Tensor]:
    """From codes to what their neighbours, at other places or of other features, take off each of them."""
    atoms, stride = dictionary.atoms, dictionary.stride
    reach = (atoms.shape[-1] - 1) // stride
    gram = F.conv2d(atoms, atoms, stride=stride, padding=reach * stride)
    own = torch.arange(len(atoms), device=atoms.device)
    gram = gram.index_put((own, own, *(torch.full_like(own, reach),) * 2), torch.zeros_like(own, dtype=gram.dtype))
    return lambda codes: F.conv2d(codes, gram, padding=reach)
