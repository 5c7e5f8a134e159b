"""Training on images that a generator made beside the client's own, as Dibbo et al., "Improving robustness to model
inversion attacks via sparse coding architectures" (ECCV 2024), compare with."""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Generator, nn

from fedsplit.defenses.base import Defense
from fedsplit.generators.base import SPARED, LabelledGenerator, imitated
from fedsplit.generators.conditional_gan import ConditionalGan
from fedsplit.records.images import Holding, Images
from fedsplit.seeding import Seeds


class GanAugmentation(Defense):
    """Before its first round each client trains a generator on its own rows alone, and adds what it makes to them, of
    its own classes in about their shares. The generator is forgotten then: it leaves no client and no trace on disk.
    What crosses the cut for a real image is what the trained segment makes of it, nothing less."""

    share: PositiveFloat = 1.0
    """Made images for each of the client's own."""
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of a made image in the loss; a real one has 1."""
    least_rows: PositiveInt = 50
    """A client with fewer rows makes none."""
    generator: LabelledGenerator = ConditionalGan()
    """Who makes them; one that takes labels."""

    @property
    def caveat(self) -> str:
        """What its training seconds may lack."""
        return SPARED

    def augment(self, data: Holding, public: Images, model: nn.Module, rng: Generator) -> Holding:
        """The client's rows, and behind them what was made of these."""
        del public
        made = round(self.share * len(data))
        if len(data) < self.least_rows or not made:
            return data
        device = next((parameter.device for parameter in model.parameters()), data.pixels.device)
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        imitation = imitated(self.generator, data, device, seeds.child("generator"))
        asked = imitation.asked(made, rng)
        pixels = imitation.synthesizer.sample(made, rng, asked)
        return data.with_made(pixels, imitation.classes[asked], self.weight)
