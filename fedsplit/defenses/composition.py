"""Several defenses in one row of the table, left to right. A YAML list of defenses is short for it."""

from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Literal

from pydantic import Field
from torch import Generator, Tensor, nn

from fedsplit.defenses.base import AnyDefense, Defense, Deployed, Sampling
from fedsplit.models.base import Model
from fedsplit.records.images import Holding, Images
from fedsplit.records.leak import Phase
from fedsplit.records.step import ClientStep, Draws, Passage, ServerStep
from fedsplit.split import Segment, Segments


class Composition(Defense):
    """Each hook of every member in turn: what one gives, the next one gets; penalties are summed."""

    active: Literal["both"] = "both"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Every member says for itself when its `release` acts."""
    members: Annotated[tuple[AnyDefense, ...], Field(min_length=1)]
    """The defenses, from the image outwards."""

    @property
    def releases(self) -> bool:
        """Whether any member changes what leaves at the cut."""
        return any(member.releases for member in self.members)

    @property
    def augments(self) -> bool:
        """Whether any member changes what its clients train on."""
        return any(member.augments for member in self.members)

    @property
    def changes_gradients(self) -> bool:
        """Whether any member changes the client's gradients."""
        return any(member.changes_gradients for member in self.members)

    @property
    def changes_server_gradients(self) -> bool:
        """Whether any member changes the server's gradients."""
        return any(member.changes_server_gradients for member in self.members)

    @property
    def acts_in_training(self) -> bool:
        """Whether any member does."""
        return any(member.acts_in_training for member in self.members)

    @property
    def claims_privacy(self) -> bool:
        """Whether any member does."""
        return any(member.claims_privacy for member in self.members)

    @property
    def samples(self) -> Sampling:
        """Poisson sampling, where any member wants it."""
        return "poisson" if any(member.samples == "poisson" for member in self.members) else "shuffled"

    @property
    def deploys(self) -> bool:
        """Whether any member changes how its clients answer once training is over."""
        return any(member.deploys for member in self.members)

    @property
    def needs_server_labels(self) -> bool:
        """Whether any member is."""
        return any(member.needs_server_labels for member in self.members)

    @property
    def needs_public_images(self) -> bool:
        """Whether any member needs them."""
        return any(member.needs_public_images for member in self.members)

    def refuses(self, segments: Segments, before: tuple[Defense, ...] = ()) -> str:
        """The first member's reason that has one."""
        for number, member in enumerate(self.members):
            earlier = (
                *before,
                *(one for one in self.members[:number] if one.changing("training") or one.changing("inference")),
            )
            if reason := member.refuses(segments, earlier):
                return reason
        return ""

    @property
    def caveat(self) -> str:
        """The members' caveats."""
        return "; ".join(member.caveat for member in self.members if member.caveat)

    def privacy(self, segments: Segments, draws: Sequence[Draws], spoilt: str) -> str:
        """The members' words. What one proves does not hold where another one acts in training, on the same rows."""
        told: list[str] = []
        for number, member in enumerate(self.members):
            others = (*self.members[:number], *self.members[number + 1 :])
            acting = " and ".join(other.kind for other in others if other.acts_in_training)
            beside = f"{acting} in the same row may couple samples, or tell of them without noise" if acting else ""
            told.append(member.privacy(segments, draws, spoilt or beside))
        return "; ".join(words for words in told if words)

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """Every member wraps the model the one before it made."""
        for member in self.members:
            model, cut = member.build(model, cut)
        return model, cut

    def warm_start(self, blocks: Segment, public: Images, rng: Generator) -> tuple[str, ...]:
        """The frozen blocks of all members."""
        return tuple(name for member in self.members for name in member.warm_start(blocks, public, rng))

    def augment(self, data: Holding, public: Images, model: nn.Module, rng: Generator) -> Holding:
        """Every member adds to what the one before it left."""
        for member in self.members:
            data = member.augment(data, public, model, rng)
        return data

    def releasing(self, phase: Phase) -> tuple[Defense, ...]:
        """The members that act in this phase."""
        return tuple(part for member in self.members for part in member.releasing(phase))

    def changing(self, phase: Phase) -> tuple[Defense, ...]:
        """The members that do in this phase."""
        return tuple(part for member in self.members for part in member.changing(phase))

    def client_penalty(self, step: ClientStep) -> Tensor:
        """The members' penalties, summed."""
        return _sum(tuple(member.client_penalty(step) for member in self.members))

    def server_penalty(self, step: ServerStep) -> Tensor:
        """The members' penalties, summed."""
        return _sum(tuple(member.server_penalty(step) for member in self.members))

    def after_backward(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """Every member in turn."""
        for member in self.members:
            member.after_backward(segment, step, rng)

    def after_server_backward(self, segment: nn.Module, passage: Passage, rng: Generator) -> None:
        """Every member in turn."""
        for member in self.members:
            member.after_server_backward(segment, passage, rng)

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """Every member in turn."""
        for member in self.members:
            member.after_step(segment, step, rng)

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        """Releases and answers pass through every member's."""
        deployed = tuple(member.deploy(model, data, rng) for member in self.members)

        def release(smashed: Tensor, rng: Generator) -> Tensor:
            return reduce(lambda tensor, part: part.release(tensor, rng), deployed, smashed)

        def answer(images: Tensor, confidences: Tensor) -> Tensor:
            return reduce(lambda tensor, part: part.answer(images, tensor), deployed, confidences)

        return Deployed(release=release, answer=answer)


def _sum(penalties: tuple[Tensor, ...]) -> Tensor:
    return reduce(Tensor.add, penalties)
