"""What Gaussian noise on sums of clipped gradients proves, by the accountant of Opacus (Mironov, Talwar, Zhang, Renyi
Differential Privacy of the Sampled Gaussian Mechanism, 2019; Yousefpour et al., Opacus, 2021)."""

import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from fedsplit.errors import EngineError


def has_accountant() -> bool:
    """Whether Opacus is installed; nothing of it is imported."""
    return find_spec("opacus") is not None


@cache
def epsilon(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Of steps whose rows come by Poisson sampling at this rate, when one row is added or taken away.

    noise_multiplier: the noise's standard deviation by the largest norm of what one row adds. Raises EngineError where
    Opacus is missing.
    """
    # To import it takes seconds, and it is here only where a training is over.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            accountant = import_module("opacus.accountants").RDPAccountant()
            accountant.history = [(noise_multiplier, rate, steps)]
            # It warns where an order that it does not try would give less: what it gives holds all the same.
            return float(accountant.get_epsilon(delta=delta))
    except ImportError as error:
        raise EngineError(f"opacus cannot be imported ({error})", remedy="pip install 'fedsplit[privacy]'") from error
