"""The contract of an image generator: images in, a network that makes more of their kind out."""

import hashlib
import json
import re
from abc import abstractmethod
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Generator, Tensor

from fedsplit.cache import cache, replacing
from fedsplit.component import Component, Family
from fedsplit.files import write_sheet
from fedsplit.layers.adversarial_training import AdversarialTraining
from fedsplit.layers.image_critic import ImageCritic
from fedsplit.layers.pyramid import unfit
from fedsplit.layers.synthesizer import Progress, Synthesizer, Tell, nothing
from fedsplit.numerics.fingerprint import fingerprint, fingerprint_of
from fedsplit.records.images import Holding, Shape
from fedsplit.seeding import Seeds

__all__ = [
    "GENERATORS",
    "SPARED",
    "AdversarialGenerator",
    "AnyGenerator",
    "ImageGenerator",
    "Imitation",
    "LabelledGenerator",
    "Progress",
    "Synthesizer",
    "fitted",
    "imitated",
]

_FORMAT = 2
"""Of what is remembered. It grows whenever the same settings train to other weights."""
_WEIGHTS = "network.safetensors"
_TRAINING = "training.json"
_SHEET = 80
_COLUMNS = 10
_DAMAGE = (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError)


class ImageGenerator(Component):
    """Learns what images look like. A prior of an attack never learns from private rows; a defense's learns from its
    own client's alone, and never leaves it. One that was trained elsewhere says so (`caveat`)."""

    conditional: ClassVar[bool] = False
    """Whether it takes labels."""

    @property
    def caveat(self) -> str:
        """What nobody is to take from what is done with it, for the card that a run begins with; or nothing."""
        return ""

    @property
    def content(self) -> str:
        """A fingerprint of what it reads besides images; nothing where it reads nothing."""
        return ""

    def refuses(self, shape: Shape) -> str:
        """Why it cannot make images of this shape, in half a sentence; or nothing. Asked before any compute."""
        del shape
        return ""

    @abstractmethod
    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """An untrained one; its initial weights come from torch's global generator. classes: of the labels it learns
        with, None where there are none."""

    @abstractmethod
    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        """images: (n, channels, height, width) in [0, 1]. labels: (n,), for those that take them. What is returned is
        in evaluation mode and learns no more."""


class AdversarialGenerator(ImageGenerator):
    """One that learns beside a critic of images until held-out images say that it gets no better. Abstract as
    `ImageGenerator` is: a member gives the network."""

    momenta: ClassVar[tuple[float, float]]
    """Of Adam, for both networks."""

    latents: PositiveInt = 64
    """Width of a latent."""
    width: PositiveInt = 16
    """Channels at full size, twice as many at each half of it; of generator and critic."""
    steps: PositiveInt = 3000
    """Of the generator, at most."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Images in a step."""
    rate: PositiveFloat = 0.001
    """Of Adam, for both networks."""
    penalty: NonNegativeFloat = 0.3
    """On half the squared gradient of the critic at real images."""
    augment_below: NonNegativeInt = 4000
    """With fewer images than this the critic sees them, and the samples, shifted and partly covered."""
    patience: PositiveInt = 6
    """How many of the twenty looks at held-out images may pass without a better one."""

    def refuses(self, shape: Shape) -> str:
        """Images too small or too long for it."""
        return unfit(shape)

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        """Does not look at labels."""
        del labels
        channels, height, width = images.shape[1:]
        with seeds.fork("weights"):
            synthesizer = self.network((channels, height, width), None).to(images)
            critic = ImageCritic((channels, height, width), self.width).to(images)
        training = AdversarialTraining(
            steps=self.steps,
            batch_size=self.batch_size,
            rate=self.rate,
            critic_rate=self.rate,
            momenta=self.momenta,
            penalty=self.penalty,
            averaging=0.995,
            disguised=len(images) < self.augment_below,
            patience=self.patience,
        )
        return training.run(synthesizer, critic, images, None, seeds, tell)


def fitted(
    generator: ImageGenerator, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing
) -> Synthesizer:
    """What the generator learns from these images, remembered for everybody who asks for the same again: never for
    images that must not leave a client.

    A folder of the cache holds the weights, the reports and a sheet of samples. One that is damaged is trained anew,
    and where nothing can be written the next one trains again.
    """
    recipe = _recipe(generator, images, labels, seeds)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:24]
    entry = cache() / "generators" / f"{re.sub(r'[^a-z0-9]+', '-', generator.kind.lower())}-{digest}"
    found = _remembered(entry, recipe, generator, images, labels, seeds)
    if found is not None:
        return found
    reports: list[Progress] = []

    def noted(progress: Progress) -> None:
        reports.append(progress)
        tell(progress)

    synthesizer = generator.fit(images, labels, seeds, noted)
    with suppress(OSError):
        _remember(entry, recipe, generator.caveat, synthesizer, reports, seeds)
    return synthesizer


@dataclass(frozen=True)
class Imitation:
    """What a generator learned of a client's rows, to be forgotten with them. classes: (k,), the labels that are there:
    nothing is known of what others look like. own: (n,) below k, the label of each row."""

    synthesizer: Synthesizer
    classes: Tensor
    own: Tensor

    def asked(self, count: int, rng: Generator) -> Tensor:
        """(count,) below k: what to make, in about the shares of the rows."""
        return self.own[torch.randint(len(self.own), (count,), generator=rng)]


_IMITATIONS = 16
_imitations: OrderedDict[str, Synthesizer] = OrderedDict()
"""The last ones of this process, by all that they depend on: rows of a table that differ in what they do with a
generator's samples need not train it again. No party is handed another's: who finds one has its rows already."""

SPARED = "a generator that another row has trained on the same rows is not in this row's training seconds"


def imitated(generator: ImageGenerator, data: Holding, device: torch.device, seeds: Seeds) -> Imitation:
    """One that takes labels learns from these rows alone, and nothing of it is kept on disk."""
    classes, own = data.labels.unique(return_inverse=True)
    pixels, labels = data.pixels.to(device), own.to(device)
    recipe = _recipe(generator, pixels, labels, seeds)
    if recipe not in _imitations:
        _imitations[recipe] = generator.fit(pixels, labels, seeds)
    _imitations.move_to_end(recipe)
    while len(_imitations) > _IMITATIONS:
        _imitations.popitem(last=False)
    return Imitation(_imitations[recipe], classes, own)


def _takes_labels(generator: ImageGenerator) -> ImageGenerator:
    if not generator.conditional:
        raise ValueError(f"{generator.kind} makes images of no known class; use conditional_gan")
    return generator


def _recipe(generator: ImageGenerator, images: Tensor, labels: Tensor | None, seeds: Seeds) -> str:
    """All that the weights depend on."""
    told: dict[str, object] = {
        "format": _FORMAT,
        "generator": GENERATORS.dump(generator),
        "images": fingerprint_of((images,) if labels is None else (images, labels)),
        "seed": seeds.number(),
        "device": images.device.type,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("fedsplit", "torch")},
    }
    if content := generator.content:
        told["content"] = content
    return json.dumps(told, sort_keys=True)


def _remember(
    entry: Path, recipe: str, caveat: str, synthesizer: Synthesizer, reports: list[Progress], seeds: Seeds
) -> None:
    labels = None if synthesizer.classes is None else torch.arange(_SHEET) % synthesizer.classes
    samples = synthesizer.sample(_SHEET, seeds("sheet"), labels)
    state = {name: value.contiguous().cpu() for name, value in synthesizer.state_dict().items()}
    training = {
        "recipe": recipe,
        "weights": fingerprint(synthesizer),
        "reports": [asdict(each) for each in reports],
        **({"caveat": caveat} if caveat else {}),
    }
    with replacing(entry) as folder:
        (folder / _WEIGHTS).write_bytes(save(state))
        (folder / _TRAINING).write_text(json.dumps(training, indent=1), encoding="utf-8")
        if samples.shape[1] in (1, 3):
            write_sheet(folder / "samples.png", samples.cpu(), columns=_COLUMNS)


def _remembered(
    entry: Path, recipe: str, generator: ImageGenerator, images: Tensor, labels: Tensor | None, seeds: Seeds
) -> Synthesizer | None:
    channels, height, width = images.shape[1:]
    classes = None if labels is None else int(labels.max()) + 1
    try:
        training = json.loads((entry / _TRAINING).read_text(encoding="utf-8"))
        state = load((entry / _WEIGHTS).read_bytes())
        with seeds.fork("blank"):
            synthesizer = generator.network((channels, height, width), classes).to(images)
        synthesizer.load_state_dict(state)
        if training["recipe"] != recipe or training["weights"] != fingerprint(synthesizer):
            return None
    except _DAMAGE:
        return None
    return synthesizer.eval().requires_grad_(requires_grad=False)


GENERATORS: Family[ImageGenerator] = Family("generators", ImageGenerator)
AnyGenerator = Annotated[ImageGenerator, GENERATORS]
LabelledGenerator = Annotated[AnyGenerator, AfterValidator(_takes_labels)]
"""One that makes images of a class that is asked for."""
