"""A decoder trained on images of the attacker's own, passed through the client (He, Zhang and Lee, "Model inversion
attacks against collaborative inference", ACSAC 2019; black-box, with auxiliary images of a similar distribution)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator

from fedsplit.attacks.base import Attack, Check, Reads, ask, legible, release_varies
from fedsplit.layers.decoder_training import DecoderTraining, Material
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
    reads: Reads = "confidences"
    """Whether it looks at an answer's confidences or at its label alone. Without effect at other leaks, as are the next
    two."""
    top: PositiveInt | None = None
    """How many of the largest confidences of an answer it looks at; None for all."""
    digits: Annotated[int, Field(ge=1, le=12)] | None = None
    """To how many decimal digits it rounds confidences first; None for none."""

    adversarial: NonNegativeFloat = 0.0
    """Weight of a critic that learns to tell the attacker's own images from rebuilt ones: the length of its gradient at
    the images, relative to the squared error's. With one, images look more like images and err more, and the weights
    of the last epoch are kept."""

    def model_post_init(self, context: object) -> None:
        """Refuses to look at a part of the confidences where none is looked at."""
        del context
        if self.reads == "labels" and (self.top, self.digits) != (None, None):
            raise ValueError("`reads: labels` looks at no confidence: leave out `top` and `digits`")

    @property
    def title(self) -> str:
        """The kind, whether a critic judges it, and what it looks at where that is not all of an answer."""
        critic = " with critic" if self.adversarial else ""
        label = "label alone" if self.reads == "labels" else ""
        top = f"top {self.top}" if self.top else ""
        digits = f"{self.digits} digit{'s' if self.digits > 1 else ''}" if self.digits else ""
        return ", ".join(filter(None, (f"{self.kind}{critic}", label, top, digits)))

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """What the decoder makes of the targets."""
        leak = legible(leak, self.top, self.digits, self.reads)
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
        ridge = " beside a ridge of everything" if run.rest else ""
        releases = "fresh releases" if material.release is not None else "one release"
        critic = f", critic of weight {self.adversarial:g}" if self.adversarial else ""
        settings = (
            f"learning rate {run.rate:g}, weights of epoch {run.best_epoch} of {self.epochs}, "
            f"sites {run.start.sites.name}{ridge}, {releases}{critic}"
        )
        evidence = Evidence(run.losses, fingerprint(run.start), fingerprint(run.last), settings)
        return Reconstruction(run.decode(leak.smashed), evidence)


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
