"""Images of a model's classes, found among those that a generator can make (Struppek, Hintersdorf, De Almeida Correia,
Adler and Kersting, "Plug & Play attacks: towards robust and flexible model inversion attacks", ICML 2022)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from fedsplit.attacks.base import Check, ClassAttack
from fedsplit.generators.base import AnyGenerator, Synthesizer, fitted
from fedsplit.generators.style_gan import StyleGan
from fedsplit.layers.crops import Crops
from fedsplit.layers.student import taught
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.numerics.hyperbolic import distance_to_class
from fedsplit.progress import track
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds

_CHUNK = 256
_AGREEMENT = 0.9
_Scores = Callable[[Tensor], Tensor]
"""(n, channels, height, width) -> (n, classes), confidences."""
_Share = Annotated[float, Field(gt=0, le=1)]


class PlugAndPlay(ClassAttack):
    """A generator learns from the attacker's own images, unlabelled; among its images those of a class are looked for.

    In four stages. Of many samples of the generator, those that the model takes for the class are where the search
    starts; their styles are moved until random crops of their images lie near the class; of what is found, the images
    stay that the model takes for the class in many random views, since what fools it alone does so from one. Where the
    model only answers, a student of its answers gives the gradients, and the model itself chooses.

    Random samples of the generator are the anchor to beat. Crops are published for images of 224 pixels; these are
    shares of the image, whatever its size.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SCORES})
    controls: ClassVar[frozenset[Check]] = frozenset({"parameters_moved", "loss_fell"})

    generator: AnyGenerator = StyleGan()
    """What makes images."""
    truncation: _Share = 0.5
    """How far a sample's style is from the mean style, relative to its own distance: less is more typical."""
    candidates: PositiveInt = 2000
    """Samples of the generator among which the starts are looked for."""
    starts: PositiveInt = 200
    """Samples of each class that are moved."""
    steps: PositiveInt = 50
    """Of Adam, with moments of 0.1 and 0.1."""
    learning_rate: PositiveFloat = 0.005
    """In units of the generator's styles."""
    crop_area: tuple[_Share, _Share] = (0.9, 1.0)
    """Least and greatest share of an image that a crop shows, at each step."""
    views: PositiveInt = 100
    """Random views of each image that was found, by which the best are chosen."""
    view_area: tuple[_Share, _Share] = (0.5, 0.9)
    """Least and greatest share of the image that such a view shows."""
    view_ratio: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.2)
    """Least and greatest width / height of such a view, relative to the image's."""
    batch_size: PositiveInt = 200
    """Images that are moved at once; how many does not matter to any of them."""
    student_samples: PositiveInt = 6000
    """Samples of the generator from whose scores the student learns, besides the attacker's own images."""
    student_epochs: PositiveInt = 10
    """Passes over all of them."""

    def model_post_init(self, context: object) -> None:
        """Refuses settings that contradict each other."""
        del context
        for name in ("crop_area", "view_area", "view_ratio"):
            least, greatest = getattr(self, name)
            if least > greatest:
                raise ValueError(f"`{name}` begins above its end: {least:g} > {greatest:g}")
        if not self.per_class <= self.starts <= self.candidates:
            counts = f"{self.per_class}, {self.starts}, {self.candidates}"
            raise ValueError(f"`per_class`, `starts` and `candidates` must not fall in this order: {counts}")

    @property
    def title(self) -> str:
        """The kind, and what makes the images."""
        return f"{self.kind} by {self.generator.title}"

    @property
    def caveat(self) -> str:
        """Its generator's."""
        return self.generator.caveat

    def unfit(self, shape: Shape) -> str:
        """What its generator cannot make."""
        return self.generator.refuses(shape)

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """`per_class` images for each class that is wanted."""
        assert leak.wanted is not None
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        own = leak.auxiliary.images
        network = fitted(self.generator, own, None, seeds.child("generator")).to(own)
        scores = _scores(leak, seeds("answers"))
        mirrored = _mirrors(scores, leak.auxiliary.validation_images)
        search = _Search(self, network, leak.model or self._student(own, scores, network, seeds), scores, mirrored)
        with torch.no_grad():
            styles = network.mapping(network.draw(self.candidates, seeds("candidates")))
            styles = network.mean_style + self.truncation * (styles - network.mean_style)
            images = search.images(styles)
            likely = search.plainly(images)
        wanted = leak.wanted.unique().tolist()
        starts = [styles[likely[:, label].topk(self.starts).indices] for label in wanted]
        found = [
            search.of(label, images[:_CHUNK], some, seeds.child("class", label))
            for label, some in track(zip(wanted, starts, strict=True), "classes", len(wanted))
        ]
        guesses = own.new_empty(len(leak.wanted), *leak.image_shape)
        for label, one in zip(wanted, found, strict=True):
            places = (leak.wanted == label).nonzero().squeeze(1)
            guesses[places] = one.images[: len(places)]
        losses = torch.tensor([one.losses for one in found]).mean(dim=0).tolist()
        confidence = sum(one.confidence for one in found) / len(found)
        told = f"; {self.caveat}" if self.caveat else ""
        settings = (
            f"gradients of {'the model' if leak.model is not None else 'a student of its scores'}, "
            f"{'views mirrored or not' if mirrored else 'no view mirrored'}, "
            f"mean confidence of the model over views of what was found {confidence:.2f}{told}"
        )
        before, after = fingerprint_of(starts), fingerprint_of([one.styles for one in found])
        unguided = network.sample(len(leak.wanted), seeds("unguided"))
        return Reconstruction(guesses, Evidence(tuple(losses), before, after, settings), unguided)

    def _student(self, own: Tensor, scores: _Scores, network: Synthesizer, seeds: Seeds) -> nn.Module:
        images = torch.cat([own, network.sample(self.student_samples, seeds("student samples"))])
        with torch.no_grad():
            answers = torch.cat([scores(some) for some in images.split(_CHUNK)])
        return taught(images, answers, self.student_epochs, seeds)


@dataclass(frozen=True)
class _Found:
    """Of one class. images: the best, from the best on. styles: of all that were moved, in their order. losses: of
    samples of the generator as they come, then of what was moved, step by step. confidence: of the model in the images.
    """

    images: Tensor
    styles: Tensor
    losses: tuple[float, ...]
    confidence: float


@dataclass(frozen=True)
class _Search:
    """network: what makes images. model: images -> logits, with gradients. scores: what chooses. mirrored: whether a
    mirrored image is as good as an image."""

    attack: PlugAndPlay
    network: Synthesizer
    model: nn.Module
    scores: _Scores
    mirrored: bool

    def of(self, label: int, samples: Tensor, starts: Tensor, seeds: Seeds) -> _Found:
        """Moves the starts, and chooses among what comes of them. samples: images of the generator as they come."""
        attack, rng = self.attack, seeds("crops")
        crops = Crops(attack.crop_area)
        with torch.no_grad():
            before = self._distances(samples, label)
        moved: list[Tensor] = []
        steps: list[Tensor] = []
        for some in starts.split(attack.batch_size):
            styles = some.clone().requires_grad_()
            optimizer = torch.optim.Adam([styles], attack.learning_rate, betas=(0.1, 0.1))
            told = torch.zeros(attack.steps)
            for step in range(attack.steps):
                distances = self._distances(crops.draw(self.network.synthesis(styles), rng), label)
                # A code of no active atom, say, does not hang on the image at all.
                styles.grad = torch.autograd.grad(distances.sum(), styles, materialize_grads=True)[0]
                optimizer.step()
                told[step] = _told(distances.detach()).sum().cpu() / len(starts)
            moved.append(styles.detach())
            steps.append(told)
        styles = torch.cat(moved)
        with torch.no_grad():
            images = self.images(styles)
            likely = self._robustly(images, label, seeds("views"))
        best = likely.topk(attack.per_class)
        curve = torch.stack(steps).sum(dim=0)
        losses = (float(_told(before).mean()), *curve.tolist())
        return _Found(images[best.indices], styles, losses, float(best.values.mean()))

    def images(self, styles: Tensor) -> Tensor:
        """(n, style width) -> (n, channels, height, width)."""
        return torch.cat([self.network.synthesis(some) for some in styles.split(_CHUNK)])

    def plainly(self, images: Tensor) -> Tensor:
        """(n, classes), the model's confidences in the images; where mirrors are as good, of them too."""
        views = (images, images.flip(-1)) if self.mirrored else (images,)
        return torch.stack([_in_chunks(self.scores, some) for some in views]).mean(dim=0)

    def _robustly(self, images: Tensor, label: int, rng: Generator) -> Tensor:
        crops = Crops(self.attack.view_area, self.attack.view_ratio, self.mirrored)
        total = images.new_zeros(len(images))
        for _ in range(self.attack.views):
            total += _in_chunks(self.scores, crops.draw(images, rng))[:, label]
        return total / self.attack.views

    def _distances(self, images: Tensor, label: int) -> Tensor:
        return distance_to_class(self.model(images), torch.full((len(images),), label, device=images.device))


def _told(distances: Tensor) -> Tensor:
    # Distances grow like a logarithm towards the boundary, near which all classes lie: what is inside it tells more.
    return distances.cosh()


def _scores(leak: Leak, rng: Generator) -> _Scores:
    """Of the model itself, where the attacker has it: nobody then disturbs what it answers."""
    model, query = leak.model, leak.scores
    if model is not None:
        return lambda images: model(images).softmax(dim=1)
    assert query is not None
    return lambda images: query(images, rng)


def _in_chunks(scores: _Scores, images: Tensor) -> Tensor:
    return torch.cat([scores(some) for some in images.split(_CHUNK)])


@torch.no_grad()
def _mirrors(scores: _Scores, images: Tensor) -> bool:
    """Whether the model takes images of the attacker's own and their mirrors for the same: letters have a left and a
    right, faces hardly."""
    seen, mirrored = (_in_chunks(scores, some).argmax(dim=1) for some in (images, images.flip(-1)))
    return float((seen == mirrored).double().mean()) >= _AGREEMENT
