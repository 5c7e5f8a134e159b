"""The samples of a batch, part by part, and where it pays with every thread on parts of its own.

A part is as many samples as a CPU's cache can hold the codes of. They have nothing to do with each other.
"""

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise, starmap
from typing import TypeVar

import torch

from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.products import Products, faster_alone, products

_CACHED_BYTES = 2**22
_LEAST_SAMPLES = 4
"""Of a thread."""

Result = TypeVar("Result")


def in_parts(dictionary: Dictionary, count: int, work: Callable[[Products, slice], Result]) -> list[Result]:
    """What the work, which is without a graph, makes of each part of `count` samples, in their order."""
    threads, everything = torch.get_num_threads(), slice(0, count)
    shares = min(threads, count // _LEAST_SAMPLES)
    if shares <= 1 or not faster_alone(dictionary):
        return _part_by_part(dictionary, everything, work)
    try:
        tasks = [_helpers(threads).submit(_alone, dictionary, rows, work) for rows in _evenly(everything, shares)]
        return [result for task in tasks for result in task.result()]
    finally:
        # What a thread tells torch of itself is also what torch gives to threads that are still to come.
        torch.set_num_threads(threads)


def _alone(dictionary: Dictionary, rows: slice, work: Callable[[Products, slice], Result]) -> list[Result]:
    torch.set_num_threads(1)
    return _part_by_part(dictionary, rows, work)


@torch.no_grad()
def _part_by_part(dictionary: Dictionary, rows: slice, work: Callable[[Products, slice], Result]) -> list[Result]:
    fast = products(dictionary)
    return [work(fast, part) for part in _parts(dictionary, rows)]


def _parts(dictionary: Dictionary, rows: slice) -> list[slice]:
    if dictionary.atoms.device.type != "cpu":
        return [rows]
    fitting = _CACHED_BYTES // (math.prod(dictionary.codes) * dictionary.atoms.element_size())
    return _evenly(rows, -(-(rows.stop - rows.start) // max(1, fitting)))


def _evenly(rows: slice, parts: int) -> list[slice]:
    """About as many in each: a part of a few takes longer per sample."""
    count = rows.stop - rows.start
    ends = [rows.start + count * part // max(1, parts) for part in range(max(1, parts) + 1)]
    return list(starmap(slice, pairwise(ends)))


@cache
def _helpers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fedsplit-parts")


if sys.platform != "win32":
    # A forked process has none of the threads of its parent.
    os.register_at_fork(after_in_child=_helpers.cache_clear)
