"""The client walked backwards, layer by layer, with what the optimality of sparse codes tells. Nothing is trained,
unless a decoder is asked for that takes the recovered codes.

Codes that minimise 1/2 |x - D a|^2 + lambda |a|_1 tell whoever knows D the exact projection of x on the active atoms
(the optimality conditions: Tibshirani, "The lasso problem and uniqueness", Electronic Journal of Statistics 2013).
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

from fedsplit.attacks.base import Attack
from fedsplit.layers.decoder_training import DecoderTraining, Material
from fedsplit.layers.linear_map import fit_linear_maps
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.layers.undo import Sight
from fedsplit.layers.walk import Walk, learn_walk, leaves, unwalkable
from fedsplit.numerics.guesses import Guess, chosen, mixed
from fedsplit.numerics.ridge import fit_ridge
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds

_CLEAR = 0.15
"""Of the mean image's error: where a walk that loses nothing before its last step comes below it, no ridge is tried."""
_WIDEST = 30_000
_DECODER = DecoderTraining(
    width=192, depth=1, epochs=10, batch_size=32, learning_rates=(0.001, 0.003, 0.009), trial_epochs=1
)


class SparseInverse(Attack):
    """Undoes the client's layers from last to first, sparse coding included, with the weights that the adversary has.

    Linear layers by least squares on the outputs that an activation let through, normalisation by its known factors,
    sparse codes by their optimality conditions; what these leave open, and the mean and scale of each image that
    standardisation took away, is filled in from auxiliary images. Where layers lose much or the release is noisy,
    ridges from what was recovered and from the smashed data itself are tried too, and what lies between the walk and
    these. Validation images choose.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED, Asset.CLIENT_WEIGHTS})

    lessons: PositiveInt = 512
    """Auxiliary images, at most half of them, by which every step learns what is usual in front of its layer and how
    far off it is."""
    students: PositiveInt = 256
    """Further auxiliary images, at most, that are walked for the ridges."""
    judges: PositiveInt = 128
    """Validation images, at most, by which the guess is chosen."""
    refine: Literal["none", "network"] = "none"
    """Whether a decoder is trained too, on the codes that were recovered of all auxiliary images (on the walk's end,
    where nothing is sparsely coded)."""

    def refuses(self, client: nn.Module) -> str:
        """A layer that no step is known for."""
        leaf = unwalkable(leaves(client))
        return "" if leaf is None else f"cannot undo the {type(leaf.module).__name__} at {leaf.name!r}"

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """`rng` draws which auxiliary images are lessons, students and judges, and trains the decoder. The client's
        weights are read, and nothing of it is changed."""
        assert leak.smashed is not None and leak.client_weights is not None and leak.auxiliary_pairs is not None
        images, pairs = leak.auxiliary.images, leak.auxiliary_pairs
        # Drawn, for images often come class by class: the first ones would teach about one class alone.
        order = torch.randperm(len(images), generator=rng).to(images.device)
        lessons, rest = order.split([own := min(self.lessons, -(-len(images) // 2)), len(images) - own])
        walk = learn_walk(tuple(leaves(leak.client_weights.broadcast)), images[lessons], pairs.smashed[lessons])
        drawn = torch.randperm(len(leak.auxiliary.validation_images), generator=rng)[: self.judges].to(images.device)
        judges = leak.auxiliary.validation_images[drawn].double()
        judged = _Trail(pairs.validation_smashed[drawn], walk)
        targets = _Trail(leak.smashed, walk)
        mean = images.double().mean(dim=0)
        guesses = [Guess("the mean image", mean.expand_as(targets.image), mean.expand_as(judges), judges)]
        guesses += _walked(mean, judges, judged, targets)
        lossless = all(step.exact for step in walk.steps[:-1])
        if not lossless or guesses[1].error > _CLEAR * guesses[0].error:
            studied = rest[: self.students]
            students = _Trail(pairs.smashed[studied], walk)
            guesses += _ridges(walk, images[studied].double(), students, judges, judged, targets)
            plain = list(_plain(leak, judges, judged, targets))
            guesses += [*plain, mixed(guesses[1], min(plain, key=lambda guess: guess.error))]
        if self.refine == "network":
            guesses.append(_decoded(leak, walk, judges, judged, targets, rng))
        best = chosen(guesses)
        settings = "; ".join((best.name, *_remarks(walk, targets)))
        return Reconstruction(best.images.to(images), Evidence(settings=settings))


class _Trail:
    """What crossed of some images, and what is known of them in front of every step's layer."""

    def __init__(self, crossed: Tensor, walk: Walk) -> None:
        self.stops = walk.back(crossed)
        self.values = (crossed.double(), *(stop.values for stop in self.stops))

    @property
    def image(self) -> Tensor:
        """Where the walk ends."""
        return self.values[-1]


def _walked(mean: Tensor, judges: Tensor, judged: _Trail, targets: _Trail) -> Iterator[Guess]:
    """The walk's end as it is, and as much of it as is best believed by the squared error."""
    off = judged.image - mean
    gain = float(((judges - mean) * off).sum() / off.square().sum().clamp(min=1e-300))
    for believed in (1.0, min(1.0, max(0.0, gain))):
        name = f"the walk, gain {believed:.2f}"
        yield Guess(name, mean + believed * (targets.image - mean), mean + believed * off, judges)


def _ridges(
    walk: Walk, images: Tensor, students: _Trail, judges: Tensor, judged: _Trail, targets: _Trail
) -> Iterator[Guess]:
    """From what is known behind every layer that was not undone exactly, and from the walk's end."""
    steps = range(len(walk.steps))
    levels = [number for number in steps if not walk.steps[number].exact] + [len(walk.steps)]
    for level in levels:
        if students.values[level][0].numel() > _WIDEST:
            continue
        ridge = fit_ridge(students.values[level].flatten(1), images.flatten(1))
        found, known = (
            ridge.predict(trail.values[level].flatten(1)).view(-1, *judges.shape[1:]) for trail in (targets, judged)
        )
        name = f"ridge of {len(images)} walked images, strength {ridge.strength:.0e}, {_place(walk, level)}"
        yield Guess(name, found, known, judges)


def _plain(leak: Leak, judges: Tensor, judged: _Trail, targets: _Trail) -> Iterator[Guess]:
    """Linear maps from all that crossed of all auxiliary images: what there is to be had without looking inside."""
    assert leak.auxiliary_pairs is not None
    crossed = leak.auxiliary_pairs.smashed
    images = leak.auxiliary.images.to(crossed)
    for fitted in fit_linear_maps(crossed, images):
        found, known = (fitted.predict(trail.values[0].to(crossed)).double() for trail in (targets, judged))
        yield Guess(f"{fitted.words}, from all that crossed", found, known, judges)


def _decoded(leak: Leak, walk: Walk, judges: Tensor, judged: _Trail, targets: _Trail, rng: Generator) -> Guess:
    """A decoder's, from the codes behind the sparse layer next to the image."""
    assert leak.auxiliary_pairs is not None
    levels = [number for number, step in enumerate(walk.steps) if isinstance(step.leaf.module, SparseCodingLayer)]
    level = levels[-1] if levels else len(walk.steps)
    images = leak.auxiliary.images
    seen = _Trail(leak.auxiliary_pairs.smashed, walk).values[level].to(images)
    known, found = (trail.values[level].to(images) for trail in (judged, targets))
    run = _DECODER.run(
        Material(images, seen, judges.to(images), known),
        leak.image_shape,
        Seeds(int(torch.randint(2**62, (), generator=rng))),
    )
    name = f"decoder of {len(images)} walked images, weights of epoch {run.best_epoch}, {_place(walk, level)}"
    return Guess(name, run.decode(found).double(), run.decode(known).double(), judges)


def _place(walk: Walk, level: int) -> str:
    return "at the end" if level == len(walk.steps) else f"behind {walk.steps[level].leaf.name}"


def _remarks(walk: Walk, targets: _Trail) -> Iterator[str]:
    stops: Sequence[Sight] = targets.stops
    for number, (step, stop) in enumerate(zip(walk.steps, stops, strict=True)):
        behind = walk.steps[number - 1].error ** 0.5 if number else 0.0
        if stop.remark:
            yield f"{step.leaf.name}: output known to {behind:.0e}, input to {step.error**0.5:.0e}, {stop.remark}"
