"""A generator that the user has trained or downloaded: a pickle of StyleGAN2 or StyleGAN3 (Karras et al., "Training
generative adversarial networks with limited data", NeurIPS 2020; "Alias-free generative adversarial networks",
NeurIPS 2021), or TorchScript."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from fedsplit.component import Trust
from fedsplit.errors import PluginError
from fedsplit.foreign import loaded
from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.foreign_synthesizer import Foreign, ForeignSynthesizer
from fedsplit.layers.synthesizer import Synthesizer, Tell, nothing
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

_AT = "generators.checkpoint"
_PROBES = 4
_MARGIN = 0.1
_MOST_OUTSIDE = 0.25
_CLONE = "set `repository` to the folder of your clone of the code that it was trained with"
_EXPORT = "see docs/generators.md for what a file may hold"


class Checkpoint(ImageGenerator):
    """Reads a network and trains nothing: a pickle that holds it, alone or as `G_ema`, or TorchScript. One with
    `mapping` and `synthesis` is searched in its styles, any other one in its latents. What it makes is cut to the
    proportions of the scenario's images, scaled to their size, and grey where they are.

    To load it is to run it. Nobody can tell here which images it was trained on: the clients' may be among them.
    """

    file: Path
    """What holds the network."""
    repository: Path | None = None
    """The folder of the code that a pickle names, found there while it is loaded and not afterwards."""
    trust: bool = False
    """Whether you trust the file and the repository as programs: a pickle may run anything when it is loaded, and what
    TorchScript runs may read and write files, too. Nothing is loaded without."""
    latents: PositiveInt | None = None
    """Width of a latent, where the network does not tell (`z_dim`)."""
    black: float = -1.0
    """In the images that the network makes."""
    white: float = 1.0
    """In the images that the network makes."""
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the sides, about the middle, that is kept of the part that has the proportions."""

    @field_validator("file")
    @classmethod
    def _must_be_a_file(cls, file: Path) -> Path:
        if not file.is_file():
            raise ValueError("no such file; name a pickle or a TorchScript file that is there")
        return file

    @field_validator("repository")
    @classmethod
    def _must_be_a_folder(cls, repository: Path | None) -> Path | None:
        if repository is not None and not repository.is_dir():
            raise ValueError("no such folder; clone the generator's repository, and name its folder")
        return repository

    def model_post_init(self, context: object) -> None:
        """Refuses what is not trusted, and images without contrast."""
        if isinstance(context, Trust) and not context.plugins:
            remedy = "leave out --no-plugins if you trust this scenario and its files, or use another generator"
            raise PluginError("is code, which is refused here", at=f"{_AT}.file", value=str(self.file), remedy=remedy)
        if not self.trust:
            raise ValueError("to load `file` is to run what it holds, and `trust` is not true: say so if you trust it")
        if self.black == self.white:
            raise ValueError(f"`black` and `white` are both {self.black:g}")

    @property
    def title(self) -> str:
        """The kind, and the file's name."""
        return f"{self.kind} {self.file.name}"

    @property
    def caveat(self) -> str:
        """That its past is unknown."""
        return (
            f"{self.file.name} (SHA-256 {self.content[:16]}) was trained elsewhere: nobody can tell here on which "
            "images, and whether the clients' are among them"
        )

    @property
    def content(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self._read()).hexdigest()

    def refuses(self, shape: Shape) -> str:
        """Nothing: PluginError, one line with its own way out, where no such image can be made."""
        self.network(shape, None)
        return ""

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """As the file has it, once it has been tried."""
        del classes
        foreign = self._foreign()
        try:
            synthesizer = ForeignSynthesizer(foreign, shape, black=self.black, white=self.white, crop=self.crop)
            with torch.no_grad():
                latents = synthesizer.draw(_PROBES, Seeds(0)("latents"))
                styles = foreign.styles(latents)
                images = self._made(foreign, synthesizer.mapping(latents), "first")
                again = self._made(foreign, synthesizer.mapping(latents), "second")
        except Exception as error:  # a stranger's network may fail in any way, and each is the user's to read
            raise self._refusal(f"makes no images ({type(error).__name__}: {error})", _EXPORT) from error
        self._check(images, again, shape)
        if styles.ndim == 3 and not torch.allclose(styles, styles[:, :1].expand_as(styles)):
            raise self._refusal("has a mapping that gives every layer a style of its own", "give all layers one style")
        return synthesizer

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        """Looks at none of them."""
        del labels, tell
        channels, height, width = images.shape[1:]
        return self.network((channels, height, width), None).to(images).finished(None, seeds("styles"))

    def _foreign(self) -> Foreign:
        network = self._network(self._loaded())
        width = self.latents or getattr(network, "z_dim", None)
        if not isinstance(width, int):
            raise self._refusal("does not tell how wide its latents are", "set `latents`")
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return Foreign(network.eval(), width, int(getattr(network, "c_dim", 0)))

    def _loaded(self) -> object:
        place = "not to be had here" if self.repository is None else f"not in {self.repository}, nor elsewhere here"
        try:
            return loaded(self._read(), self.repository)
        except PluginError:
            raise
        except ModuleNotFoundError as error:
            raise self._refusal(f"needs the module {error.name!r}, which is {place}", _CLONE) from error
        except AttributeError as error:
            raise self._refusal(f"needs what is not where it says ({error})", _CLONE) from error
        except Exception as error:  # to load it is to run it, and whatever runs may fail in any way
            raise self._refusal(f"cannot be loaded ({type(error).__name__}: {error})", _EXPORT) from error

    def _network(self, found: object) -> nn.Module:
        if isinstance(found, Mapping):
            found = found.get("G_ema", found.get("g_ema", found))
        if isinstance(found, nn.Module):
            return found
        if isinstance(found, Mapping) and all(isinstance(each, Tensor) for each in found.values()):
            raise self._refusal("holds weights without the network that they are of", "save the network itself")
        raise self._refusal(f"holds a {type(found).__name__} and no network", "save the network, alone or as `G_ema`")

    def _made(self, foreign: Foreign, styles: Tensor, name: str) -> Tensor:
        # Under other draws each time, so that what draws shows it.
        with Seeds(0).fork(name):
            return foreign.images(styles)

    def _check(self, images: object, again: object, shape: Shape) -> None:
        if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != _PROBES:
            what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise self._refusal(f"makes {what} of {_PROBES} latents, and not images (n, channels, ...)", _EXPORT)
        if images.shape[1] not in (1, 3, shape[0]):
            reason = f"makes images of {images.shape[1]} channels, and the scenario's have {shape[0]}"
            raise self._refusal(reason, "use a generator of grey or RGB images")
        if not images.isfinite().all():
            raise self._refusal("makes images that are not finite", "use another file")
        light = (images - self.black) / (self.white - self.black)
        outside = float(((light < -_MARGIN) | (light > 1 + _MARGIN)).double().mean())
        if outside > _MOST_OUTSIDE or light.min() > 0.5 - _MARGIN:
            seen = f"makes values from {float(images.min()):.3g} to {float(images.max()):.3g}"
            reason = f"{seen}, which is not what `black: {self.black:g}, white: {self.white:g}` says"
            raise self._refusal(reason, "set `black` and `white` to what they are in its images")
        assert isinstance(again, Tensor)
        if not torch.allclose(images, again, atol=1e-3 * abs(self.white - self.black)):
            remedy = "export it with constant noise"
            raise self._refusal("draws while it makes an image, so that a style is of no one image", remedy)

    def _read(self) -> bytes:
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise self._refusal(f"cannot be read ({error.strerror})", "name a file that you may read") from error

    def _refusal(self, reason: str, remedy: str) -> PluginError:
        return PluginError(reason, at=f"{_AT}.file", value=str(self.file), remedy=remedy)
