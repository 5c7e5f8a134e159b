"""Cuts a model in two, or in three where its head stays at the client; refuses what cannot be cut."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn

from fedsplit.errors import ScenarioError
from fedsplit.records.images import Shape

Features = tuple[tuple[str, Tensor], ...]
"""(block name, output) of every block, in order."""


class Segment(nn.Module):
    """Named blocks, applied one after the other. Parameters keep the names they have in the whole model."""

    def __init__(self, blocks: "OrderedDict[str, nn.Module]") -> None:
        super().__init__()
        self.names = tuple(blocks)
        for name, block in blocks.items():
            self.add_module(name, block)

    def blocks(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, block), in order."""
        return ((name, self.get_submodule(name)) for name in self.names)

    def features(self, inputs: Tensor) -> Features:
        """(n, *input shape) -> the output of every block."""
        outputs: list[tuple[str, Tensor]] = []
        for name, block in self.blocks():
            inputs = block(inputs)
            outputs.append((name, inputs))
        return tuple(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, *input shape) -> (n, *output shape)."""
        for _, block in self.blocks():
            inputs = block(inputs)
        return inputs


@dataclass(frozen=True)
class Home:
    """What a client holds of a model: the client segment and (U-shaped) the head."""

    client: Segment
    head: Segment | None = None

    @cached_property
    def whole(self) -> Segment:
        """All of it as one segment of the same modules."""
        return self.client if self.head is None else Segment(OrderedDict([*self.client.blocks(), *self.head.blocks()]))


@dataclass(frozen=True)
class Segments:
    """The client segment, the server segment, and the shape of one smashed sample between them.

    head: the blocks after the server's, which stay at the client with the labels (U-shaped); None where there are none.
    """

    client: Segment
    server: Segment
    cut_shape: tuple[int, ...]
    head: Segment | None = None

    @cached_property
    def home(self) -> Home:
        """What a client holds, the same modules."""
        return Home(self.client, self.head)

    @property
    def behind(self) -> tuple[Segment, nn.Module]:
        """What comes after the cut, the same modules: the blocks up to the last hidden layer, and the one that gives
        logits."""
        *hidden, (_, last) = list(self.whole.blocks())[len(self.client.names) :]
        return Segment(OrderedDict(hidden)), last

    @property
    def whole(self) -> Segment:
        """All blocks in order, the same modules."""
        own = [] if self.head is None else list(self.head.blocks())
        return Segment(OrderedDict([*self.client.blocks(), *self.server.blocks(), *own]))


def split(blocks: "OrderedDict[str, nn.Module]", cut: str, shape: Shape, head: str | None = None) -> Segments:
    """Blocks up to and including `cut` go to the client, the rest to the server; from `head` on they stay home.

    Raises ScenarioError where the cut is no block, or leaves the server nothing, or the blocks do not fit the shape.
    """
    names = list(blocks)
    if len(names) < 2:
        raise ScenarioError("has one block alone", at="model", remedy="choose a model of two blocks or more")
    if cut not in names:
        raise ScenarioError("no block of this name", at="cut", value=cut, remedy=f"use one of {', '.join(names[:-1])}")
    if cut == names[-1]:
        raise ScenarioError(
            "leaves the server no block", at="cut", value=cut, remedy=f"use one of {', '.join(names[:-1])}"
        )
    last = names.index(cut) + 1
    stop = len(names) if head is None else _first_of_head(names, last, head)
    client = Segment(OrderedDict((name, blocks[name]) for name in names[:last]))
    server = Segment(OrderedDict((name, blocks[name]) for name in names[last:]))
    cut_shape = _cut_shape(client, server, cut, shape)
    if head is None:
        return Segments(client, server, cut_shape)
    middle, end = (OrderedDict((name, blocks[name]) for name in some) for some in (names[last:stop], names[stop:]))
    return Segments(client, Segment(middle), cut_shape, Segment(end))


def _first_of_head(names: list[str], last: int, head: str) -> int:
    allowed = names[last + 1 :]
    if head not in allowed:
        reason = "is no block after the server's first"
        remedy = f"use one of {', '.join(allowed)}" if allowed else "choose an earlier cut"
        raise ScenarioError(reason, at="head", value=head, remedy=remedy)
    return names.index(head)


def _cut_shape(client: Segment, server: Segment, cut: str, shape: Shape) -> tuple[int, ...]:
    # Where the blocks are: those without memory are asked without compute, but that imports torch's compiler.
    modes = [(module, module.training) for segment in (client, server) for module in segment.modules()]
    like = next(chain(client.parameters(), server.parameters()), torch.empty(0))
    try:
        client.eval()
        server.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            smashed = _passed(client, torch.zeros((2, *shape), dtype=like.dtype, device=like.device))
            _passed(server, smashed)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:  # torch has no error of its own for this
        raise ScenarioError(
            f"the model does not fit images of shape {shape} ({error})",
            at="model",
            remedy="choose a larger image_size or another model",
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if smashed.shape[0] != 2:
        raise ScenarioError("changes the number of samples", at="cut", value=cut, remedy="choose another block")
    return tuple(smashed.shape[1:])


def _passed(segment: Segment, inputs: Tensor) -> Tensor:
    # With buffers of its own, since some blocks count in theirs what passes.
    buffers = {name: buffer.clone() for name, buffer in segment.named_buffers()}
    return torch.func.functional_call(segment, buffers, (inputs,))
