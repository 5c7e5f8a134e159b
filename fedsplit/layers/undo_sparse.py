"""How a sparse-coding layer is undone: codes tell how the image correlates with every atom.

At the least 1/2 |x - D a|^2 + lambda |a|_1 an active atom correlates with x - D a by exactly lambda, so that D_S'x is
known and with it the orthogonal projection of x on the span of the active atoms; an inactive atom by no more.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.layers.standard_moments import Moments
from fedsplit.layers.undo import AMPLE, Lesson, Sight, Undo
from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.numerics.pixel_posterior import from_correlations
from fedsplit.numerics.posterior import from_few_planes, from_planes
from fedsplit.numerics.priors import factor_prior, stationary_prior, white_prior

_DENSE = 1024
_COLOURS = 4
_THRESHOLDS = (0.0, *(10.0 ** (power / 2) for power in range(-18, 1)))
_LEAST_VARIANCE = 1e-13
_TOLERANCE = 1e-2
_REHEARSED = 64
_WIDER = 4.0
"""Inactive correlations are far from normal and hang together: taken for this much less precise than each alone is."""


def undo_sparse_coding(layer: nn.Module, lesson: Lesson) -> Undo:
    """Cleaned codes, then the image as coded, then its mean and scale."""
    assert isinstance(layer, SparseCodingLayer)
    dictionary = _dictionary(layer, lesson.inputs)
    standard = layer.standardised(lesson.inputs)
    clean = Cleaning(lesson, layer.nonnegative)
    learned = clean(lesson.seen.values)
    inverse = _Inverse(layer, dictionary, standard, learned)
    plain = dictionary.synthesise(learned)
    moments = Moments(lesson.inputs, plain, inverse(learned[:_REHEARSED])) if layer.standardise else None

    def undo(seen: Sight) -> Sight:
        codes = clean(seen.values)
        images, plain = inverse(codes), dictionary.synthesise(codes)
        if moments is not None:
            images = moments.restored(images, plain)
        return Sight(images, seen.noise, remark=_certificate(layer, codes, plain))

    return undo


def certified_error(layer: SparseCodingLayer, codes: Tensor, plain: Tensor) -> Tensor:
    """(n,): |x - D a|^2 / |x|^2 of codes at the optimum, without x: |x|^2 - |D a|^2 - 2 lambda |a|_1, where a standard
    image of d numbers has |x|^2 = d - 1. plain: D a."""
    power = plain[0].numel() - 1
    explained = plain.square().sum(dim=(1, 2, 3)) + 2 * layer.lambda_ * codes.abs().sum(dim=(1, 2, 3))
    return 1 - explained / power


def _certificate(layer: SparseCodingLayer, codes: Tensor, plain: Tensor) -> str:
    if not layer.standardise:
        return ""
    return f"certified error of the plain reconstruction {float(certified_error(layer, codes, plain).mean()):.3f}"


class Cleaning:
    """Codes are exactly zero where they are below a threshold: the one that finds the most atoms right, active or
    not, in the lesson's images."""

    def __init__(self, lesson: Lesson, nonnegative: bool) -> None:
        self.nonnegative = nonnegative
        active, scale = lesson.outputs != 0, lesson.outputs.square().mean().sqrt()
        wrong = [int(((self._cut(lesson.seen.values, share * scale) != 0) ^ active).sum()) for share in _THRESHOLDS]
        best = [share for share, count in zip(_THRESHOLDS, wrong, strict=True) if count == min(wrong)]
        self.threshold = best[len(best) // 2] * scale

    def __call__(self, codes: Tensor) -> Tensor:
        """(n, *codes) -> the same."""
        return self._cut(codes, self.threshold)

    def _cut(self, codes: Tensor, threshold: Tensor) -> Tensor:
        size = codes if self.nonnegative else codes.abs()
        return torch.where(size > threshold, codes, 0)


class _Inverse:
    """From codes to the image that was coded. How far the codes are from optimal, be it because the solver stopped or
    because they are not quite known, is measured on the lesson's images."""

    def __init__(self, layer: SparseCodingLayer, dictionary: Dictionary, standard: Tensor, codes: Tensor) -> None:
        self.dictionary = dictionary
        off = dictionary.correlate(standard - dictionary.synthesise(codes))
        inside, outside = off * codes.sign(), off[codes == 0]
        inside = inside[codes != 0]
        least = _LEAST_VARIANCE * float(standard.var())
        self.shift = (_mean(inside, layer.lambda_), _mean(outside, 0.0))
        variances = (max(least, _variance(inside)), max(least, _WIDER * _variance(outside)))
        self.estimate = _estimator(dictionary, standard, codes, variances)

    def __call__(self, codes: Tensor) -> Tensor:
        active = codes != 0
        correlations = self.dictionary.correlate(self.dictionary.synthesise(codes))
        correlations += torch.where(active, self.shift[0] * codes.sign(), self.shift[1])
        return self.estimate(correlations, active)


def _estimator(
    dictionary: Dictionary, standard: Tensor, codes: Tensor, variances: tuple[float, float]
) -> Callable[[Tensor, Tensor], Tensor]:
    """From correlations with all atoms, and which of these are active, to images; variances: of active atoms' and of
    the others' correlations. What images are like is learned from `standard`, whose codes are at hand."""
    if standard[0].numel() <= _DENSE:
        pixels = factor_prior(standard.flatten(1))
        return lambda correlations, active: from_correlations(dictionary, correlations, active, variances, pixels)
    few = float((codes != 0).double().mean()) * codes[0].numel() < AMPLE * standard[0].numel()
    planes = (stationary_prior if few or standard.shape[1] <= _COLOURS else white_prior)(standard)

    def estimate(correlations: Tensor, active: Tensor) -> Tensor:
        inside, outside = variances
        precision = torch.where(active, 1 / inside, 1 / outside)
        if few:
            return from_few_planes(dictionary, correlations, precision, planes)
        return from_planes(dictionary, correlations, precision, planes, _TOLERANCE)

    return estimate


def _dictionary(layer: SparseCodingLayer, images: Tensor) -> Dictionary:
    atoms = layer.atoms.detach().to(images)
    size = (images.shape[2], images.shape[3])
    return Dictionary(normalised(atoms), size, layer.stride, layer.padding)


def _mean(values: Tensor, otherwise: float) -> float:
    return float(values.mean()) if values.numel() else otherwise


def _variance(values: Tensor) -> float:
    return float(values.var()) if values.numel() > 1 else 1.0
