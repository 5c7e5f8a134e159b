"""Freed memory is there at once for the next tensor of its size."""

import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from fedsplit.numerics.allocation import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        held = [torch.ones(4 << 20, dtype=torch.uint8) for _ in range(6)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is left as it is")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    # 24 MiB each time: 6,144 small pages, or 12 huge ones.
    found = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 20 * 12
