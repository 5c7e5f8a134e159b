"""A small style-based generator (Karras, Laine and Aila, CVPR 2019, with the modulated convolutions and the summed
outputs of Karras, Laine, Aittala, Hellsten, Lehtinen and Aila, "Analyzing and improving the image quality of StyleGAN",
CVPR 2020)."""

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.layers.pyramid import Level, pyramid
from fedsplit.layers.synthesizer import Block, ChainedSynthesizer, Stage
from fedsplit.records.images import Shape

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))
_SMALL = 1e-8


class StyleSynthesizer(ChainedSynthesizer):
    """A mapping network turns latents into styles; a constant becomes an image, level by level, and every convolution
    on the way is scaled by the style. The noise that is added behind each of them was drawn once, so that the same
    style always gives the same image; how strong it is is learned."""

    def __init__(self, image: Shape, latents: int, styles: int, depth: int, width: int, *, mixing: float = 0.0) -> None:
        """styles: width of a style. depth: layers of the mapping network. width: channels at full size. mixing: the
        share of images that have, in training, the style of a second latent from some level on."""
        super().__init__(latents, styles)
        self.mixing = mixing
        layers: list[nn.Module] = []
        for layer in range(depth):
            layers += [nn.Linear(styles if layer else latents, styles), nn.LeakyReLU(_SLOPE)]
        self.to_styles = nn.Sequential(*layers)
        levels = pyramid(image, width)
        first = levels[0]
        self.start = nn.Parameter(torch.randn(1, first.width, first.height, first.breadth))
        finer = (_Level(below.width, above, styles, image[0]) for below, above in pairwise(levels))
        self.levels = nn.ModuleList([_Level(first.width, first, styles, image[0]), *finer])
        self._size = image[1:]
        # In which convolutions of few channels are fastest.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents) -> (n, styles); of a latent only the direction counts."""
        del labels
        return self.to_styles(latents * (latents.square().mean(dim=1, keepdim=True) + _SMALL).rsqrt())

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents) -> (n, *image). Draws from torch's global generator, in training alone."""
        del labels
        styles = self.mapping(latents)
        if not self.training or not self.mixing:
            return self.synthesis(styles)
        count, device = len(latents), latents.device
        behind = torch.randint(1, len(self.levels), (count,), device=device)
        crossovers = torch.where(torch.rand(count, device=device) < self.mixing, behind, len(self.levels))
        return self.mixed(styles, self.mapping(torch.randn_like(latents)), crossovers)

    def mixed(self, first: Tensor, second: Tensor, crossovers: Tensor) -> Tensor:
        """(n, styles) twice, (n,) -> (n, *image): so many levels of an image have the first style, all others the
        second."""
        stage = Stage(first)
        for number, block in enumerate(self.blocks):
            stage = block(stage, torch.where((number < crossovers)[:, None], first, second))
        return stage.features

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One for each level. The first begins with the constant."""
        return tuple(partial(self._raised, number) for number in range(len(self.levels)))

    def _raised(self, number: int, stage: Stage, styles: Tensor) -> Stage:
        maps = stage.features if number else self.start.expand(len(styles), -1, -1, -1)
        maps, part = self.levels[number](maps, styles)
        image = part if stage.painted is None else _doubled(stage.painted) + part
        if number < len(self.levels) - 1:
            return Stage(maps, image)
        return Stage(image[:, :, : self._size[0], : self._size[1]].sigmoid())


class _Level(nn.Module):
    """Two convolutions, the first of them before the maps are doubled where they are too coarse; and what this level
    adds to the image, in logits."""

    def __init__(self, incoming: int, level: Level, styles: int, channels: int) -> None:
        super().__init__()
        self.size = level.height, level.breadth
        self.first = _Modulated(incoming, level.width, 3, styles)
        self.first_end = _Ending(level)
        self.second = _Modulated(level.width, level.width, 3, styles)
        self.second_end = _Ending(level)
        self.image = _Modulated(level.width, channels, 1, styles, demodulated=False)
        self.image_bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, maps: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.first(maps, styles)
        if tuple(maps.shape[2:]) != self.size:
            maps = _doubled(maps)
        maps = self.second_end(self.second(self.first_end(maps), styles))
        return maps, self.image(maps, styles) + self.image_bias


class _Modulated(nn.Module):
    """A convolution whose inputs are scaled by the style and whose outputs are brought back to a deviation of one
    behind the activation, as if the inputs had it. To scale what goes in and out is to scale the weights, and all
    samples share these."""

    def __init__(self, incoming: int, outgoing: int, kernel: int, styles: int, *, demodulated: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outgoing, incoming, kernel, kernel) / math.sqrt(incoming * kernel**2))
        self.scale = nn.Linear(styles, incoming)
        nn.init.ones_(self.scale.bias)
        self.demodulated = demodulated

    def forward(self, maps: Tensor, styles: Tensor) -> Tensor:
        scale = self.scale(styles)
        found = F.conv2d(maps * scale[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulated:
            return found
        variance = scale.square() @ self.weight.square().sum(dim=(2, 3)).T
        return found * (_GAIN * (variance + _SMALL).rsqrt())[:, :, None, None]


class _Ending(nn.Module):
    """The noise, a bias for each channel, and the activation."""

    noise: Tensor

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(1, 1, level.height, level.breadth))
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(level.width, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return F.leaky_relu(maps + (self.strength * self.noise + self.bias), _SLOPE)


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
