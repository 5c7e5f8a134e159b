"""A conditional generator of dense layers (Mirza and Osindero, "Conditional generative adversarial nets", 2014), in the
sizes that Dibbo et al., "Improving robustness to model inversion attacks via sparse coding architectures" (ECCV 2024),
compare with."""

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.adversarial_training import AdversarialTraining
from fedsplit.layers.dense_gan import DenseCritic, DenseSynthesizer
from fedsplit.layers.synthesizer import Synthesizer, Tell, nothing
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds


class ConditionalGan(ImageGenerator):
    """Makes images of a class that is asked for, where it learns with labels. Small, and learns as long as it is told
    to: no image is held out. A style is the latent and the embedding of its class, and every pixel is made by itself,
    so that samples of few steps are grainy."""

    conditional: ClassVar[bool] = True

    latents: PositiveInt = 100
    """Width of a latent."""
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 512, 1024)
    """Hidden units of the generator, layer by layer; the critic has them the other way round."""
    epochs: PositiveInt = 25
    """How often the critic sees every image."""
    least_steps: NonNegativeInt = 500
    """Steps of the generator that few images get all the same, in more epochs."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images in a step."""
    critic_steps: PositiveInt = 5
    """Of the critic before each step of the generator."""
    rate: PositiveFloat = 0.0001
    """Of Adam, for both networks."""

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """An untrained one."""
        return DenseSynthesizer(shape, self.latents, self.widths, classes)

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        """Trains for so many epochs."""
        channels, height, width = images.shape[1:]
        classes = None if labels is None else int(labels.max()) + 1
        with seeds.fork("weights"):
            synthesizer = self.network((channels, height, width), classes).to(images)
            critic = DenseCritic((channels, height, width), self.widths[::-1], classes).to(images)
        seen = self.epochs * len(images)
        training = AdversarialTraining(
            steps=max(self.least_steps, -(-seen // (self.batch_size * self.critic_steps))),
            batch_size=self.batch_size,
            rate=self.rate,
            critic_rate=self.rate,
            momenta=(0.9, 0.999),
            critic_steps=self.critic_steps,
        )
        return training.run(synthesizer, critic, images, labels, seeds, tell)
