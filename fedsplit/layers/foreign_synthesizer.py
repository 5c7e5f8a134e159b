"""A generator of images that was trained elsewhere, with the interface of ours: a mapping and a synthesis, as StyleGAN
is published (Karras et al., CVPR 2020; NeurIPS 2021), or one network from latents to images."""

import inspect
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.layers.synthesizer import Block, Stage, Synthesizer
from fedsplit.numerics.likeness import alike, centred
from fedsplit.records.images import Shape

_STEADY = {"noise_mode": "const", "force_fp32": True}
"""What StyleGAN's synthesis has to be told, so that the same style gives the same image on every device."""


@dataclass(frozen=True)
class Foreign:
    """A network as its file has it: (z) -> images, (z, c) where it has classes; or `mapping(z, c)` -> styles, which may
    be repeated for every layer, and `synthesis(styles)` -> images.

    width: of z, drawn from N(0, I). classes: width of c, one-hot; 0 where it knows none.
    """

    network: nn.Module
    width: int
    classes: int

    @property
    def latents(self) -> int:
        """Width of what stands for z and c: a class is the place of the largest of its values, so any is as likely."""
        return self.width + self.classes

    def styles(self, latents: Tensor) -> Tensor:
        """(n, latents) -> (n, width) or (n, layers, width), as it gives them; without a mapping, the latents."""
        return self._network(latents).mapping(*self._asked(latents)) if self._styled else latents

    def images(self, styles: Tensor) -> Tensor:
        """(n, width) -> images as it gives them. The same style goes to all layers."""
        network = self._network(styles)
        if not self._styled:
            latent, classes = self._asked(styles)
            return network(latent, classes) if self.classes else network(latent)
        every = styles.to(self._dtype)
        every = every[:, None].expand(-1, self.layers, -1) if self.layers else every
        return network.synthesis(every, **self._steady)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """By which StyleGAN2 calls the blocks of its synthesis; none where there are no such blocks."""
        synthesis = getattr(self.network, "synthesis", None)
        sizes = tuple(getattr(synthesis, "block_resolutions", ()))
        return sizes if all(hasattr(synthesis, f"b{size}") for size in sizes) else ()

    def block(self, size: int, maps: Tensor | None, image: Tensor | None, styles: Tensor) -> tuple[Tensor, Tensor]:
        """What StyleGAN2's block of this size makes of the maps and the image of the one before, if there is one."""
        block = getattr(self._network(styles).synthesis, f"b{size}")
        own = styles.to(self._dtype)[:, None].expand(-1, block.num_conv + block.num_torgb, -1)
        maps, image = (None if part is None else part.to(self._dtype) for part in (maps, image))
        return block(maps, image, own, **self._steady)

    @cached_property
    def layers(self) -> int:
        """For how many layers its mapping repeats a style; 0 where it gives it once."""
        with torch.no_grad():
            found = self.styles(torch.zeros(1, self.latents))
        return found.shape[1] if found.ndim == 3 else 0

    @cached_property
    def _styled(self) -> bool:
        return hasattr(self.network, "mapping") and hasattr(self.network, "synthesis")

    @cached_property
    def _dtype(self) -> torch.dtype:
        return next((one.dtype for one in self.network.parameters() if one.is_floating_point()), torch.float32)

    @cached_property
    def _steady(self) -> dict[str, object]:
        if isinstance(self.network, torch.jit.ScriptModule):
            return {}
        synthesis: Any = self.network.synthesis
        known = inspect.signature(getattr(synthesis, "forward", synthesis)).parameters
        passed_on = any(each.kind is each.VAR_KEYWORD for each in known.values())
        return {name: value for name, value in _STEADY.items() if passed_on or name in known}

    def _network(self, beside: Tensor) -> Any:
        return self.network.to(beside.device)

    def _asked(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        latent, chances = latents.to(self._dtype).split([self.width, self.classes], dim=1)
        if not self.classes:
            return latent, chances
        return latent, F.one_hot(chances.argmax(dim=1), self.classes).to(latent)


class ForeignSynthesizer(Synthesizer):
    """Its images are cut to the proportions of ours about their middle, scaled to our size, and grey where ours are.

    The network stays in the precision that its own code counts on, and is no part of the state: its file has it.
    """

    def __init__(self, foreign: Foreign, image: Shape, *, black: float, white: float, crop: float) -> None:
        """black, white: what these are in its images. crop: the share of their sides that is kept."""
        with torch.no_grad():
            width = foreign.styles(torch.zeros(1, foreign.latents)).shape[-1]
        super().__init__(foreign.latents, width)
        self.foreign = foreign
        self._image, self._black, self._white, self._crop = image, black, white, crop

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents) -> (n, style width)."""
        del labels
        styles = self.foreign.styles(latents).to(latents)
        return styles[:, 0] if styles.ndim == 3 else styles

    def synthesis(self, styles: Tensor) -> Tensor:
        """(n, style width) -> (n, *image)."""
        return self._ours(self.foreign.images(styles).to(styles))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Those of a StyleGAN2 that was pickled; other files do not tell theirs."""
        return tuple(partial(self._block, size) for size in self.foreign.resolutions)

    def _block(self, size: int, stage: Stage, styles: Tensor) -> Stage:
        first, *_, last = self.foreign.resolutions
        maps, image = self.foreign.block(size, None if size == first else stage.features, stage.painted, styles)
        if size == last:
            return Stage(self._ours(image.to(styles)))
        return Stage(maps.to(styles), image)

    def _ours(self, images: Tensor) -> Tensor:
        light = (images - self._black) / (self._white - self._black)
        _, height, width = self._image
        return alike(centred(light.clamp(0, 1), height, width, self._crop), self._image)
