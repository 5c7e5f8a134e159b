"""A generator of transposed convolutions (Radford, Metz and Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016)."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.adversarial_training import AdversarialTraining
from fedsplit.layers.image_critic import ImageCritic
from fedsplit.layers.pyramid import unfit
from fedsplit.layers.synthesizer import Synthesizer, Tell, nothing
from fedsplit.layers.transposed_synthesizer import TransposedSynthesizer
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds


class ConvolutionalGan(ImageGenerator):
    """Doubles coarse maps until they are an image, each place of a map normalised by itself. A style is the latent
    itself; labels are not looked at."""

    latents: PositiveInt = 64
    """Width of a latent."""
    width: PositiveInt = 16
    """Channels at full size, twice as many at each half of it; of generator and critic."""
    steps: PositiveInt = 4000
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

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """An untrained one."""
        del classes
        return TransposedSynthesizer(shape, self.latents, self.width)

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        """Trains until held-out images say that it gets no better."""
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
            momenta=(0.5, 0.99),
            penalty=self.penalty,
            averaging=0.995,
            disguised=len(images) < self.augment_below,
            patience=self.patience,
        )
        return training.run(synthesizer, critic, images, None, seeds, tell)
