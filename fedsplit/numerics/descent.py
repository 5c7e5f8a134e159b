"""Iterations on sparse codes, per sample until they are good enough, over a batch that shrinks as samples are done."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from fedsplit.numerics.lasso import Lasso, Solution
from fedsplit.numerics.parts import in_parts
from fedsplit.numerics.products import Products

_FINISHED_SHARE = 0.25


class Descent(Protocol):
    """A batch's codes on their way to the least objective."""

    codes: Tensor

    def step(self) -> None:
        """One iteration: a product with D, and one with D'."""
        ...

    def step_and_gap(self) -> Tensor:
        """One iteration, and the relative duality gaps of the codes that it leads to: (n,)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Goes on with these samples only."""
        ...


Begin = Callable[[Lasso, Tensor, Products], Descent]
"""From images and first codes, which are the descent's own, both as the products want them."""


def descended(
    lasso: Lasso, start: Tensor | None, begin: Begin, tolerance: float, iterations: int, check_every: int
) -> Solution:
    """Stops every sample where its gap is within the tolerance, or after so many iterations; the gap says which."""

    def solved(fast: Products, rows: slice) -> Solution:
        part = lasso.at(rows)
        first = part.no_codes() if start is None else start[rows].clone()
        descent = begin(replace(part, images=fast.arrange(part.images)), fast.arrange(first), fast)
        return _run(descent, tolerance, iterations, check_every)

    parts = in_parts(lasso.dictionary, len(lasso.images), solved)
    columns = zip(*((part.codes, part.gap, part.iterations) for part in parts), strict=True)
    codes, gap, spent = (torch.cat(column) for column in columns)
    return Solution(codes, gap, spent)


def _run(descent: Descent, tolerance: float, iterations: int, check_every: int) -> Solution:
    codes = torch.empty_like(descent.codes)
    gap = torch.full((len(codes),), torch.inf, dtype=codes.dtype, device=codes.device)
    spent = torch.zeros_like(gap, dtype=torch.long)
    left = torch.arange(len(codes), device=codes.device)
    settled = torch.zeros_like(left, dtype=torch.bool)
    for number in range(1, iterations + 1):
        last = number == iterations
        if not last and number % check_every:
            descent.step()
            continue
        gaps = descent.step_and_gap()
        # Kept as they are now, though they may go on with the others: what a sample gets is not up to its batch.
        done = ~settled & ((gaps <= tolerance) | last)
        own = left[done]
        codes[own], gap[own], spent[own] = descent.codes[done], gaps[done], number
        settled |= done
        if bool(settled.all()):
            break
        if float(settled.float().mean()) >= _FINISHED_SHARE:
            descent.keep(~settled)
            left = left[~settled]
            settled = torch.zeros_like(left, dtype=torch.bool)
    return Solution(codes, gap, spent)
