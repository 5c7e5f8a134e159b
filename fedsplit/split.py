"""Cuts a model in two; refuses what cannot be cut."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

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
class Segments:
    """The client segment, the server segment, and the shape of one smashed sample between them."""

    client: Segment
    server: Segment
    cut_shape: tuple[int, ...]


def split(blocks: "OrderedDict[str, nn.Module]", cut: str, shape: Shape) -> Segments:
    """Blocks up to and including `cut` go to the client, the rest to the server.

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
    client = Segment(OrderedDict((name, blocks[name]) for name in names[:last]))
    server = Segment(OrderedDict((name, blocks[name]) for name in names[last:]))
    return Segments(client, server, _cut_shape(client, server, cut, shape))


def _cut_shape(client: Segment, server: Segment, cut: str, shape: Shape) -> tuple[int, ...]:
    # Shapes alone are wanted: on the meta device a forward pass allocates and computes nothing.
    modes = [(module, module.training) for segment in (client, server) for module in segment.modules()]
    states = [{name: torch.empty_like(value, device="meta") for name, value in segment.state_dict().items()}
              for segment in (client, server)]  # fmt: skip
    dtype = next((parameter.dtype for parameter in client.parameters()), torch.get_default_dtype())
    try:
        client.eval()
        server.eval()
        images = torch.empty((2, *shape), dtype=dtype, device="meta")
        smashed: Tensor = torch.func.functional_call(client, states[0], (images,))
        torch.func.functional_call(server, states[1], (smashed,))
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
