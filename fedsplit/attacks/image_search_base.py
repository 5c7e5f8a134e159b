"""An attack's search for images of a class among those that a generator can make (Struppek, Hintersdorf, De Almeida
Correia, Adler and Kersting, "Plug & Play attacks: towards robust and flexible model inversion attacks", ICML 2022)."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from fedsplit.attacks.base import Check, ClassAttack
from fedsplit.generators.base import AnyGenerator, fitted
from fedsplit.generators.style_gan import StyleGan
from fedsplit.layers.class_search import ClassSearch, Refined, Scores, in_chunks, mirrors, told
from fedsplit.layers.crops import Crops
from fedsplit.layers.student import taught
from fedsplit.layers.synthesizer import Synthesizer
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.progress import track
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds

_SAMPLES = 256
_Share = Annotated[float, Field(gt=0, le=1)]


class ImageSearch(ClassAttack):
    """What attacks on classes have in common that look among the images of a generator, which learns from the
    attacker's own images, unlabelled. Abstract as `Attack` is: a member says what becomes of a style that was found.

    Of many samples those that the model takes for the class are where the search starts; their styles are moved until
    random crops of their images lie near the class; of what is found, the images stay that the model takes for the
    class in many random views, since what fools it alone does so from one. Where the model only answers, a student of
    its answers gives the gradients, and the model itself chooses. Random samples of the generator are the anchor to
    beat.
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

    @abstractmethod
    def refined(self, search: ClassSearch, label: int, styles: Tensor, seeds: Seeds) -> Refined:
        """What becomes of the styles that were found for a class."""

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """`per_class` images for each class that is wanted."""
        assert leak.wanted is not None
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        own = leak.auxiliary.images
        network = fitted(self.generator, own, None, seeds.child("generator")).to(own)
        search = self._search(leak, network, _scores(leak, seeds("answers")), seeds)
        with torch.no_grad():
            styles = network.mapping(network.draw(self.candidates, seeds("candidates")))
            styles = network.mean_style + self.truncation * (styles - network.mean_style)
            images = search.images(styles)
            likely = search.plainly(images)
        wanted = leak.wanted.unique().tolist()
        starts = [styles[likely[:, label].topk(self.starts).indices] for label in wanted]
        found = [
            self._found(search, label, images[:_SAMPLES], some, seeds.child("class", label))
            for label, some in track(zip(wanted, starts, strict=True), "classes", len(wanted))
        ]
        guesses = own.new_empty(len(leak.wanted), *leak.image_shape)
        for label, one in zip(wanted, found, strict=True):
            places = (leak.wanted == label).nonzero().squeeze(1)
            guesses[places] = one.images[: len(places)]
        losses = torch.tensor([one.losses for one in found]).mean(dim=0).tolist()
        before, after = fingerprint_of(starts), fingerprint_of([one.styles for one in found])
        unguided = network.sample(len(leak.wanted), seeds("unguided"))
        return Reconstruction(
            guesses, Evidence(tuple(losses), before, after, self._told(leak, search, found)), unguided
        )

    def _search(self, leak: Leak, network: Synthesizer, scores: Scores, seeds: Seeds) -> ClassSearch:
        mirrored = mirrors(scores, leak.auxiliary.validation_images)
        return ClassSearch(
            network=network,
            model=leak.model or self._student(leak.auxiliary.images, scores, network, seeds),
            scores=scores,
            crops=Crops(self.crop_area),
            steps=self.steps,
            learning_rate=self.learning_rate,
            views=Crops(self.view_area, self.view_ratio, mirrored),
            looks=self.views,
            batch_size=self.batch_size,
        )

    def _student(self, own: Tensor, scores: Scores, network: Synthesizer, seeds: Seeds) -> nn.Module:
        images = torch.cat([own, network.sample(self.student_samples, seeds("student samples"))])
        with torch.no_grad():
            answers = in_chunks(scores, images)
        return taught(images, answers, self.student_epochs, seeds)

    def _found(self, search: ClassSearch, label: int, samples: Tensor, starts: Tensor, seeds: Seeds) -> "_Found":
        with torch.no_grad():
            before = float(told(search.distances(samples, label)).mean())
        styles, curve = search.moved(label, starts, seeds("crops"))
        refined = self.refined(search, label, styles, seeds.child("refined"))
        best = search.robustly(refined.images, label, seeds("views")).topk(self.per_class)
        losses = (before, *curve, *refined.losses)
        return _Found(refined.images[best.indices], styles, losses, float(best.values.mean()), refined.moved)

    def _told(self, leak: Leak, search: ClassSearch, found: "list[_Found]") -> str:
        parts = [
            f"gradients of {'the model' if leak.model is not None else 'a student of its scores'}",
            "views mirrored or not" if search.views.mirrored else "no view mirrored",
            f"mean confidence of the model over views of what was found {_mean([one.confidence for one in found]):.2f}",
        ]
        if any(one.moved for one in found):
            parts.append(f"features moved for the better in {_mean([one.moved for one in found]):.0%} of the images")
        return "; ".join(part for part in (", ".join(parts), self.caveat) if part)


@dataclass(frozen=True)
class _Found:
    """Of one class. images: the best, from the best on. styles: of all that were moved, in their order. losses: of
    samples of the generator as they come, then of what was moved, step by step. confidence: of the model in the images.
    moved: the share that is more than a style makes."""

    images: Tensor
    styles: Tensor
    losses: tuple[float, ...]
    confidence: float
    moved: float


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _scores(leak: Leak, rng: Generator) -> Scores:
    """Of the model itself, where the attacker has it: nobody then disturbs what it answers."""
    model, query = leak.model, leak.scores
    if model is not None:
        return lambda images: model(images).softmax(dim=1)
    assert query is not None
    return lambda images: query(images, rng)
