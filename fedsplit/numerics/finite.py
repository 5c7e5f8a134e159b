"""Whether numbers are numbers."""

from math import isfinite

from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """No value is infinite or not a number. values: any shape and type."""
    # One pass that keeps nothing: whatever is not finite stays so in a sum. A sum may also overflow by itself.
    return isfinite(float(values.sum())) or bool(values.isfinite().all())
