"""A decoder trained on images of the attacker's own, passed through the client (He, Zhang and Lee, "Model inversion
attacks against collaborative inference", ACSAC 2019; black-box, with auxiliary images of a similar distribution)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator

from fedsplit.attacks.base import Attack, Check, ask, legible, release_varies
from fedsplit.layers.decoder_training import DecoderTraining, Material, decode
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds


class InverseNetwork(Attack):
    """Trains a decoder to undo the client, defense included, by the mean squared error of its images.

    Where the client can be queried and its release is random, every batch is released anew, so that the decoder learns
    the noise and not one draw of it. The same few learning rates are tried under every defense. The weights of the best
    validation loss are kept; those before training, a closed-form linear map or the mean image, count as epoch 0.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED, Asset.AUXILIARY_PAIRS})
    controls: ClassVar[frozenset[Check]] = frozenset({"parameters_moved", "loss_fell"})

    width: PositiveInt = 192
    """Hidden units of the decoder at each row; other parts of it are in proportion."""
    depth: PositiveInt = 1
    """Hidden layers of the decoder's local network."""
    epochs: PositiveInt = 10
    """Passes over the auxiliary images with the chosen learning rate."""
    batch_size: PositiveInt = 32
    """Auxiliary images per step."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=20)] = (0.001, 0.003, 0.009)
    """Peak rates of Adam that are tried; the best by validation loss is chosen."""
    trial_epochs: PositiveInt = 1
    """Passes over the auxiliary images for each rate tried, each on a full schedule."""
    top: PositiveInt | None = None
    """How many of the largest confidences of an answer it looks at; None for all. Without effect at other leaks."""

    adversarial: NonNegativeFloat = 0.0
    """Weight of a critic that learns to tell the attacker's own images from rebuilt ones: the length of its gradient at
    the images, relative to the squared error's. With one, images look more like images and err more, and the weights
    of the last epoch are kept."""

    @property
    def title(self) -> str:
        """The kind, and whether a critic judges it."""
        return f"{self.kind} with critic" if self.adversarial else self.kind

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """What the decoder makes of the targets."""
        leak = legible(leak, self.top)
        assert leak.smashed is not None
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        material = _material(leak, seeds)
        training = DecoderTraining(
            self.width,
            self.depth,
            self.epochs,
            self.batch_size,
            self.learning_rates,
            self.trial_epochs,
            self.adversarial,
        )
        run = training.run(material, leak.image_shape, seeds)
        settings = (
            f"learning rate {run.rate:g}, weights of epoch {run.best_epoch} of {self.epochs}, "
            f"sites {run.start.sites.name}, {'fresh releases' if material.release is not None else 'one release'}"
            f"{f', critic of weight {self.adversarial:g}' if self.adversarial else ''}"
        )
        evidence = Evidence(run.losses, fingerprint(run.start), fingerprint(run.last), settings)
        return Reconstruction(decode(run.best, leak.smashed), evidence)


def _material(leak: Leak, seeds: Seeds) -> Material:
    assert leak.smashed is not None and leak.auxiliary_pairs is not None
    varies = release_varies(leak, seeds("probe"))
    images, pairs = leak.auxiliary, leak.auxiliary_pairs
    return Material(
        images.images.to(leak.smashed),
        pairs.smashed.to(leak.smashed),
        images.validation_images.to(leak.smashed),
        pairs.validation_smashed.to(leak.smashed),
        (lambda some, rng: ask(leak, some, rng)) if varies else None,
    )
