"""Sparse codes as they are published, written as plainly as possible: what ours are measured against."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics.lasso import Lasso

_LOOKS_EVERY = 5
"""Iterations from one look at the gap to the next, as in ours."""


def dynamics(images: Tensor, atoms: Tensor, lambda_: float, steps: int, tau: float = 100.0) -> Tensor:
    """The locally competitive algorithm (Rozell, Johnson, Baraniuk and Olshausen, Neural Computation 2008) as in Teti,
    Kenyon, Migliori and Moore, ICML 2022: units inhibit each other through the Gram tensor of the atoms, no code on
    the border excepted; the threshold comes first.

    images: (n, channels, height, width), standardised. atoms: (features, channels, kernel, kernel), unit norm.
    """
    kernel = atoms.shape[-1]
    drive = F.conv2d(images, atoms, padding=kernel // 2)
    gram = F.conv2d(atoms, atoms, padding=kernel - 1)
    own = torch.arange(len(atoms))
    gram[own, own, kernel - 1, kernel - 1] = 0
    potential = codes = torch.zeros_like(drive)
    for _ in range(steps):
        codes = F.relu(potential - lambda_)
        inhibition = F.conv2d(codes, gram, padding=kernel - 1)
        potential = potential + (drive - potential - inhibition) / tau
    return codes


def accelerated(lasso: Lasso, tolerance: float, at_most: int, *, restart: bool) -> Tensor:
    """Iterations that FISTA (Beck and Teboulle, SIAM J. Imaging Sciences 2009) with step 1 / bound takes to a relative
    duality gap: (n,), infinity where `at_most` did not do. restart: where the momentum points uphill, per sample
    (O'Donoghue and Candes, Foundations of Computational Mathematics 2015).
    """
    step, dictionary = 1 / lasso.bound, lasso.dictionary
    ahead = codes = lasso.images.new_zeros((len(lasso.images), *dictionary.codes))
    clock = torch.ones(len(codes), 1, 1, 1)
    needed = torch.full((len(codes),), torch.inf)
    for number in range(1, at_most + 1):
        before = codes
        gradient = dictionary.correlate(dictionary.synthesise(ahead) - lasso.images)
        codes = F.relu(ahead - step * (gradient + lasso.lambda_))
        if restart:
            uphill = ((ahead - codes) * (codes - before)).sum(dim=(1, 2, 3), keepdim=True) > 0
            clock = torch.where(uphill, 1.0, clock)
        later = (1 + torch.sqrt(1 + 4 * clock**2)) / 2
        ahead, clock = codes + (clock - 1) / later * (codes - before), later
        if number % _LOOKS_EVERY == 0:
            needed = torch.where((lasso.gap(codes) <= tolerance) & needed.isinf(), number, needed)
            if not needed.isinf().any():
                break
    return needed
