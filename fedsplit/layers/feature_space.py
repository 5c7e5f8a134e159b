"""Networks of an attacker's own around a cut of any shape: a pilot that does what a client does, a decoder that undoes
it, and a critic that tells what the one sends from what the other does (Pasquini, Ateniese and Bernaschi, "Unleashing
the tiger: inference attacks on split learning", CCS 2021)."""

from math import prod

import torch
from torch import Tensor, nn

from fedsplit.layers.decoder import Decoder
from fedsplit.layers.site_map import SiteMap
from fedsplit.layers.sites import sites_of
from fedsplit.records.images import Shape

_NARROWER_ON_MAPS = 6
_SLOPE = 0.2
_SMALLEST_MAP = 4


def pilot(cut: tuple[int, ...], image: Shape, width: int, *, rectified: bool) -> nn.Module:
    """(n, *image) -> (n, *cut). Where the cut is a map of places or of rows, each sees what a client's would see.

    rectified: whether nothing below zero ever crosses. Initial weights come from torch's global generator.
    """
    last: list[nn.Module] = [nn.ReLU()] if rectified else []
    channels, height, columns = image
    stride = _stride(cut, image)
    if stride is not None:
        hidden = max(1, width // _NARROWER_ON_MAPS)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, hidden, 5, stride=stride, padding=2),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, cut[0], 3, padding=1),
            # Nothing, but where unpadded convolutions took places away.
            nn.AdaptiveAvgPool2d(cut[1:]),
        ]
    elif len(cut) == 3 and cut[:2] == (channels, height):
        layers = [*_dense(columns, width, nn.ReLU()), nn.Linear(width, cut[2])]
    else:
        layers = [
            nn.Flatten(),
            *_dense(prod(image), width, nn.ReLU()),
            nn.Linear(width, prod(cut)),
            nn.Unflatten(1, cut),
        ]
    return nn.Sequential(*layers, *last)


def decoder(cut: tuple[int, ...], image: Shape, width: int) -> Decoder:
    """(n, *cut) -> (n, *image), with nothing known yet."""
    sites = sites_of(cut, image)[-1]
    weight = torch.zeros(sites.features, sites.outputs)
    nowhere = SiteMap(sites, weight, torch.zeros(1, *cut), torch.zeros(1, *image), strength=0.0, error=0.0)
    return Decoder(nowhere, torch.ones(()), width, depth=2)


class FeatureCritic(nn.Module):
    """(n, *cut) -> (n,): the higher, the less it looks like the pilot's."""

    def __init__(self, cut: tuple[int, ...], image: Shape, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if _stride(cut, image) is not None:
            channels, hidden, side = cut[0], max(1, width // _NARROWER_ON_MAPS), min(cut[1:])
            while side >= 2 * _SMALLEST_MAP:
                layers += [nn.Conv2d(channels, hidden, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
                channels, side = hidden, side // 2
        self.places = nn.Sequential(*layers, nn.Flatten())
        features = self.places(torch.zeros(1, *cut)).shape[1]
        self.whole = nn.Sequential(*_dense(features, width, nn.LeakyReLU(_SLOPE)), nn.Linear(width, 1))

    def forward(self, smashed: Tensor) -> Tensor:
        """Unbounded; only differences mean something."""
        return self.whole(self.places(smashed)).squeeze(1)

    def penalty(self, one: Tensor, other: Tensor, between: Tensor) -> Tensor:
        """How far its gradient, over all of a row, is from length one between two batches (Gulrajani et al., NeurIPS
        2017). between: (n,), in [0, 1], where."""
        share = between.view(-1, *(1,) * (one.dim() - 1))
        middle = torch.lerp(one, other, share).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self(middle).sum(), middle, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def _dense(inputs: int, width: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.Linear(inputs, width), activation, nn.Linear(width, width), activation]


def _stride(cut: tuple[int, ...], image: Shape) -> int | None:
    """Pixels to each place, down and across, where the cut is a map of the image's places."""
    if len(cut) != 3 or cut[1] > image[1] or cut[2] > image[2]:
        return None
    down, across = round(image[1] / cut[1]), round(image[2] / cut[2])
    return down if down == across else None
