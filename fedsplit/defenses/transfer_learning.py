"""Transfer learning against model inversion (TL-DMI: Ho, Hao, Chandrasegaran, Nguyen, Cheung, "Model inversion
robustness: can transfer learning help?", CVPR 2024)."""

from collections import OrderedDict
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Generator

from fedsplit.defenses.base import Defense
from fedsplit.layers.pretraining import Pretraining
from fedsplit.records.images import Images
from fedsplit.seeding import drawn_from
from fedsplit.split import Segment, Segments


class TransferLearning(Defense):
    """The first blocks learn from public images alone, before round 1, and never move again.

    Meant against whoever looks for training rows in the weights: frozen blocks are the same whatever the clients hold.
    It hides nothing of an image that is being sent: frozen features describe it as well as any others. The model's last
    block has no part in the pre-training, where another one, of the public classes, stands in its place.
    """

    freeze: Annotated[str, Field(min_length=1)] | PositiveInt
    """The last block that is frozen, by name, or how many there are, counted from the image; on both sides of the cut.
    Blocks without parameters and buffers count, but go on as they are: dropout among them still drops in training."""
    epochs: PositiveInt = 20
    """Passes over the public images before round 1."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Of these passes. Batches are of equal size, up to twice as large where the images do not come out even."""
    learning_rate: PositiveFloat = 0.001
    """Of these passes, by Adam."""

    @property
    def needs_public_images(self) -> bool:
        """To learn from."""
        return True

    @property
    def caveat(self) -> str:
        """What public weights do not cover."""
        return (
            "weights that know no private row do not limit what one activation reveals about the image being sent; "
            "only the frozen blocks know none"
        )

    def refuses(self, segments: Segments, before: tuple[Defense, ...] = ()) -> str:
        """A block that is not there, or nothing left to freeze, or to learn."""
        del before
        names = segments.whole.names
        if isinstance(self.freeze, str) and self.freeze not in names:
            return f"cannot freeze up to {self.freeze}, which is none of the blocks {', '.join(names)}"
        if len(self._first(names)) >= len(names):
            return f"would freeze all of the {len(names)} blocks, and the last one has to learn the private classes"
        if not self._frozen(segments.whole):
            return "would freeze nothing, as the first blocks have no parameters"
        return ""

    def warm_start(self, blocks: Segment, public: Images, rng: Generator) -> tuple[str, ...]:
        """Trains all blocks but the last one on public images and labels; the first of them are then frozen."""
        *body, _ = blocks.blocks()
        with drawn_from(rng):
            lesson = Pretraining(self.epochs, self.batch_size, self.learning_rate)
            lesson.on_public(Segment(OrderedDict(body)), public, self.kind)
        return self._frozen(blocks)

    def _frozen(self, blocks: Segment) -> tuple[str, ...]:
        first = self._first(blocks.names)
        # What holds nothing would only change its mode: noise behind a block, say, begins once training is over.
        return tuple(name for name, block in blocks.blocks() if name in first and block.state_dict())

    def _first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        count = self.freeze if isinstance(self.freeze, int) else names.index(self.freeze) + 1
        return names[:count]
