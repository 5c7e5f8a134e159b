"""Mean and scale of standardised samples, guessed from samples of one's own."""

import torch
from torch import Tensor

from fedsplit.layers.standard_moments import Moments
from fedsplit.numerics.phantoms import phantoms

LESSONS, REHEARSED = 160, 64


def drawings() -> Tensor:
    """(n, 1, 16, 16), a ground of zeros with something on it."""
    pixels, _ = phantoms(LESSONS + 40, (1, 16, 16), 2, torch.Generator().manual_seed(0))
    return (pixels.double() - 0.4).clamp(min=0)


def standardised(samples: Tensor) -> Tensor:
    mean, deviation = samples.mean(dim=(1, 2, 3), keepdim=True), samples.std(dim=(1, 2, 3), keepdim=True)
    return (samples - mean) / deviation


def test_samples_come_back_from_what_is_fainter_than_their_standardised_form_and_has_another_ground() -> None:
    samples = drawings()
    standard, rng = standardised(samples), torch.Generator().manual_seed(1)
    gain, shift = (torch.rand(len(samples), 1, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    found = (0.8 + 0.2 * gain) * standard + 0.3 * shift
    assert error(samples, found) < 1.1 * error(samples, standard)


def error(samples: Tensor, found: Tensor) -> Tensor:
    """Of those that are no lessons, root mean square."""
    standard = standardised(samples)
    moments = Moments(samples[:LESSONS], standard[:LESSONS], found[:REHEARSED])
    return (moments.restored(found[LESSONS:], standard[LESSONS:]) - samples[LESSONS:]).square().mean().sqrt()


def test_where_nothing_was_found_there_is_one_usual_value() -> None:
    samples = drawings()
    standard = standardised(samples)
    moments = Moments(samples[:LESSONS], standard[:LESSONS], standard[:REHEARSED])
    nothing = torch.zeros_like(standard[LESSONS:])
    restored = moments.restored(nothing, standard[LESSONS:])
    assert restored.isfinite().all()
    assert (restored - restored[:, :, :1, :1]).abs().max() == 0
