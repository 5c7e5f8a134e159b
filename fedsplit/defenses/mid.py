"""A variational information bottleneck (MID: Wang, Zhang, Jia, "Improving robustness to model inversion attacks via
mutual information regularization", AAAI 2021, with the bound of Alemi, Fischer, Dillon, Murphy, ICLR 2017)."""

from collections import OrderedDict
from math import prod
from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from fedsplit.defenses.base import Defense
from fedsplit.errors import ScenarioError
from fedsplit.layers.bottleneck import Expansion
from fedsplit.layers.gaussian_code import GaussianMoments, GaussianSample, SampledExpansion, UnsampledCode, sampled
from fedsplit.models.base import AnyModel, Model
from fedsplit.numerics.gaussian_divergence import divergence_from_standard
from fedsplit.records.images import Shape
from fedsplit.records.step import ClientStep, ServerStep
from fedsplit.split import Features, Segments, split


class Mid(Defense):
    """A Gaussian code of the features, sampled anew for every answer, whose bits cost something.

    Two blocks make mean and deviation of each number and draw it; a third leads back to the shape that the model goes
    on with. `beta` times the divergence of the code from a standard Gaussian, which bounds what it tells about the
    image, is added to the loss. It is meant against who sees one sample. The mean of several answers has less noise,
    and who holds the client's weights can use the mean of the code itself, without any.

    At the cut `release` draws, so that noise is fresh wherever the client is asked. What crosses are the samples and as
    many zeros: the deviations are in their place until then, and never leave. Before the head the draw is a block of
    the server's, and hides nothing of what crosses the cut.
    """

    beta: PositiveFloat
    """Price of a nat of divergence, beside a task loss of weight one. Published: 0.001 and 0.003."""
    features: PositiveInt | None = None
    """Numbers in the code; half of what the features have, where it is left out."""
    place: Literal["cut", "head"] = "cut"
    """Behind the cut's block, at the client; or before the model's last block, as published."""

    @property
    def releases(self) -> bool:
        """At the cut alone."""
        return self.place == "cut"

    def refuses(self, segments: Segments, before: tuple[Defense, ...] = ()) -> str:
        """Another defense between its blocks, or a divergence that nobody pays for."""
        if self.place == "head":
            ours = _moments(self.place) in segments.server.names
            return "" if ours else "has its bottleneck in a head at the client, where its divergence is not paid for"
        if segments.client.names[-1] != _code(self.place):
            return "draws what crosses, but a defense listed after it moves the cut: list that one first"
        return f"draws from what the client computes, so {before[0].kind} has to be listed after it" if before else ""

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model with the three blocks; the cut, where they follow it, moves behind the second."""
        at_cut = self.place == "cut"
        widened = _Widened(inner=model, cut=cut if at_cut else None, mid=self)
        return widened, _code(self.place) if at_cut else cut

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, 2 k): means and faint deviations -> (n, 2 k): samples and zeros."""
        return sampled(smashed, rng)

    def client_penalty(self, step: ClientStep) -> Tensor:
        """Of the code at the cut."""
        return self._price(step.features) if self.place == "cut" else Defense.client_penalty(self, step)

    def server_penalty(self, step: ServerStep) -> Tensor:
        """Of the code before the head."""
        return self._price(step.features) if self.place == "head" else Defense.server_penalty(self, step)

    def _price(self, features: Features) -> Tensor:
        mean, deviation = dict(features)[_moments(self.place)].chunk(2, dim=1)
        return self.beta * divergence_from_standard(mean, deviation).mean()


class _Widened(Model):
    inner: AnyModel
    cut: str | None
    """The block that the code is of; None: the last but one."""
    mid: Mid

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        blocks = self.inner.blocks(shape, classes)
        coded = self.cut or list(blocks)[-2]
        own = self._bottleneck(split(blocks, coded, shape).cut_shape)
        if own.keys() & blocks.keys():
            remedy = "leave one of them out, or let it take another place"
            raise ScenarioError(
                "is taken by two defenses of one row", at="mid.place", value=self.mid.place, remedy=remedy
            )
        widened: OrderedDict[str, nn.Module] = OrderedDict()
        for name, block in blocks.items():
            widened[name] = block
            widened.update(own if name == coded else {})
        return widened

    def _bottleneck(self, shape: tuple[int, ...]) -> "OrderedDict[str, nn.Module]":
        mid = self.mid
        count = mid.features or max(1, prod(shape) // 2)
        if mid.place == "cut":
            code = UnsampledCode(in_training=mid.active != "inference", at_inference=mid.active != "training")
            expansion = SampledExpansion(count, shape)
        else:
            code, expansion = GaussianSample(), Expansion(count, shape)
        moments = GaussianMoments(shape, count)
        return OrderedDict({_moments(mid.place): moments, _code(mid.place): code, f"{mid.place}_expansion": expansion})


def _moments(place: str) -> str:
    return f"{place}_moments"


def _code(place: str) -> str:
    return f"{place}_code"
