import sys

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from fedsplit.errors import EngineError
from fedsplit.numerics.accountant import epsilon


def by_orders(noise_multiplier: float, steps: int, delta: float) -> float:
    """Of the plain Gaussian mechanism: its Renyi divergence of order a is a / (2 s^2) for each step, made an epsilon as
    by Canonne, Kamath, Steinke (2020)."""
    orders = np.linspace(1.01, 64, 200_000)
    divergence = steps * orders / (2 * noise_multiplier**2)
    return float(np.min(divergence + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)))


@pytest.mark.parametrize(("noise_multiplier", "steps"), [(1.1, 1), (2.0, 5), (4.0, 100), (10.0, 400)])
def test_with_all_rows_in_every_batch_it_is_that_of_the_gaussian_mechanism(noise_multiplier: float, steps: int) -> None:
    expected = by_orders(noise_multiplier, steps, 1e-5)
    # Opacus tries 160 orders.
    assert expected <= epsilon(noise_multiplier, 1.0, steps, 1e-5) <= 1.02 * expected


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("noise_multiplier", [0.7, 1.5])
def test_what_it_promises_of_one_step_holds(rate: float, noise_multiplier: float) -> None:
    """delta(epsilon) of the exact densities, with the row and without it, either way round."""
    delta = 1e-3
    promised = epsilon(noise_multiplier, rate, 1, delta)

    def without(x: float) -> float:
        return float(scipy.stats.norm.pdf(x, 0, noise_multiplier))

    def within(x: float) -> float:
        return (1 - rate) * without(x) + rate * float(scipy.stats.norm.pdf(x, 1, noise_multiplier))

    for one, other in ((within, without), (without, within)):

        def excess(x: float, one=one, other=other) -> float:
            return max(0.0, one(x) - np.exp(promised) * other(x))

        lost, _ = scipy.integrate.quad(excess, -12, 14, limit=400, points=[0.0, 1.0])
        assert lost <= delta


def test_it_grows_with_steps_and_rate_and_falls_with_noise_and_delta() -> None:
    usual = epsilon(1.1, 0.1, 50, 1e-5)
    assert epsilon(1.1, 0.1, 51, 1e-5) > usual
    assert epsilon(1.1, 0.11, 50, 1e-5) > usual
    assert epsilon(1.2, 0.1, 50, 1e-5) < usual
    assert epsilon(1.1, 0.1, 50, 1e-4) < usual


def test_without_opacus_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    epsilon.cache_clear()
    with pytest.raises(EngineError, match=r"^opacus cannot be imported \(.*\); pip install 'fedsplit\[privacy\]'$"):
        epsilon(1.1, 0.1, 7, 1e-5)
