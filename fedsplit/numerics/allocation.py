"""Memory that a process keeps for itself once it had it."""

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of mallopt in glibc's malloc.h."""
_NEVER = 2**31 - 1
_LARGEST_KEPT = 32 << 20


@cache
def keep_freed_memory() -> None:
    """Has this process keep the memory of tensors of up to 32 MiB for the next ones, where its C library is glibc.

    By itself that library gives large pieces back to the system, which hands them out as pages of zeros again: a
    training step then waits at thousands of page faults for the very memory that the step before it had.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    set_option(_TRIM_THRESHOLD, _NEVER)
    set_option(_MMAP_THRESHOLD, _LARGEST_KEPT)
