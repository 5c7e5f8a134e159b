"""Linear equations on the active atoms of sparse codes, solved by conjugate gradients with convolutions.

Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", 1952; one system per sample.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.parts import in_parts
from fedsplit.numerics.products import Products

Product = Callable[[Tensor], Tensor]
"""The left side of equations: (n, ...) -> the same."""

_FINISHED_SHARE = 0.25
"""Where so many of the samples are done, the others go on without them."""


@dataclass(frozen=True)
class ActiveSet:
    """D_S, the columns of a dictionary where `active` is true. active: (n, features, height, width)."""

    dictionary: Dictionary
    active: Tensor
    tolerance: float | None = None
    """Of the residual's norm, relative to the right-hand side's. By default 1e-12 in float64, and in float32 1e-3."""
    iterations: int = 200
    """At most this many. Where more atoms are active than there are pixels, the equations have many solutions or none,
    and the iterations stop at what they have found."""

    def solve(self, right: Tensor) -> Tensor:
        """The v on the active set with D_S'D_S v = right there: (n, features, height, width) -> the same."""
        tolerance = self.tolerance or (1e-12 if right.dtype == torch.float64 else 1e-3)

        def solved(fast: Products, rows: slice) -> Tensor:
            mask = fast.arrange(self.active[rows].to(right))

            def narrowed(left: Tensor | slice) -> Product:
                active = mask[left]
                return lambda codes: fast.correlate(fast.synthesise(codes)).mul_(active)

            return conjugate_gradients(
                narrowed(slice(None)), fast.arrange(right[rows]) * mask, tolerance, self.iterations, narrowed=narrowed
            )

        return torch.cat(in_parts(self.dictionary, len(right), solved))


def conjugate_gradients(
    product: Product,
    right: Tensor,
    tolerance: float,
    iterations: int,
    start: Tensor | None = None,
    inverse: Callable[[Tensor], Tensor] | None = None,
    narrowed: Callable[[Tensor], Product] | None = None,
) -> Tensor:
    """The v with product(v) = right, for a symmetric positive semi-definite product of each sample by itself.

    right: (n, ...). inverse: about that of the product, symmetric and positive definite, too; the closer, the fewer
    iterations. narrowed: the product for some of the samples alone, by their places, where it pays to leave out those
    that are done. Stops when every residual is below `tolerance` times its right-hand side, or where a direction has
    no curvature left. A sample that is done moves no further.
    """
    solution = torch.zeros_like(right) if start is None else start.clone()
    residual = right.clone() if start is None else right - product(start)
    eased = residual if inverse is None else inverse(residual)
    direction = eased.clone()
    size = _sums_of_squares(residual)
    power = size if inverse is None else _sums(residual * eased)
    goal = tolerance**2 * _sums_of_squares(right)
    whole, left = torch.empty_like(right), torch.arange(len(right), device=right.device)
    for _ in range(iterations):
        open_still = size > goal
        if not bool(open_still.any()):
            break
        if narrowed is not None and float(open_still.float().mean()) <= 1 - _FINISHED_SHARE:
            whole[left] = solution
            solution, residual, direction = (tensor[open_still] for tensor in (solution, residual, direction))
            size, power, goal, left = (tensor[open_still] for tensor in (size, power, goal, left))
            product = narrowed(left)
        image = product(direction)
        curvature = _sums(direction * image)
        live = (size > goal) & (curvature > torch.finfo(power.dtype).eps * _sums_of_squares(direction))
        step = _each(torch.where(live, power / curvature, 0), right)
        solution.addcmul_(direction, step)
        residual.addcmul_(image, step, value=-1)
        eased = residual if inverse is None else inverse(residual)
        size = _sums_of_squares(residual)
        before, power = power, size if inverse is None else _sums(residual * eased)
        torch.addcmul(eased, direction, _each(torch.where(live, power / before, 0), right), out=direction)
        if not bool(live.any()):
            break
    whole[left] = solution
    return whole


def _sums_of_squares(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim()))).square()


def _sums(tensor: Tensor) -> Tensor:
    return tensor.sum(dim=tuple(range(1, tensor.dim())))


def _each(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))
