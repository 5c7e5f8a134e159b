"""Generators that somebody else made, as files: TorchScript, and pickles whose classes lie in a repository."""

import importlib
import pickle
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from textwrap import dedent

import torch
from torch import Tensor, nn

from fedsplit.seeding import Seeds

Z = 6


class Plain(nn.Module):
    """Latents (n, Z) -> images (n, 3, 20, 16) in [-1, 1]."""

    z_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.z_dim = Z
        self.first = nn.Linear(Z, 32)
        self.second = nn.Linear(32, 3 * 20 * 16)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(2 * self.second(torch.tanh(2 * self.first(z)))).view(-1, 3, 20, 16)


def scripted(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(network.eval()).save(str(path))
    return path


def plain() -> nn.Module:
    with Seeds(0).fork("plain"):
        return Plain().eval()


@lru_cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fedsplit-tests-")


@lru_cache
def stored() -> Path:
    """A TorchScript file that stays as long as this process."""
    return scripted(plain(), Path(_kept().name) / "plain.pt")


NETWORKS = """
    import torch
    from own_ops.noise import noisy

    class Mapping(torch.nn.Module):
        def __init__(self, z_dim, c_dim, w_dim, layers):
            super().__init__()
            self.layers = layers
            self.dense = torch.nn.Linear(z_dim + c_dim, w_dim)

        def forward(self, z, c, truncation_psi=1):
            w = self.dense(torch.cat([z, c], dim=1)).tanh()
            return w[:, None].repeat(1, self.layers, 1)

    class Block(torch.nn.Module):
        def __init__(self, incoming, width, w_dim):
            super().__init__()
            self.num_conv, self.num_torgb = (2 if incoming else 1), 1
            if not incoming:
                self.const = torch.nn.Parameter(torch.randn(width, 4, 4))
            self.conv = torch.nn.Conv2d(incoming or width, width, 3, padding=1)
            self.scale = torch.nn.Linear(w_dim, width)
            self.torgb = torch.nn.Conv2d(width, 3, 1)

        def forward(self, x, img, ws, force_fp32=False, noise_mode="random"):
            assert ws.shape[1] == self.num_conv + self.num_torgb and force_fp32 and ws.dtype == torch.float32
            if x is None:
                x = self.const[None].repeat(len(ws), 1, 1, 1)
            else:
                x = torch.nn.functional.interpolate(x, scale_factor=2)
                img = torch.nn.functional.interpolate(img, scale_factor=2)
            x = torch.nn.functional.leaky_relu(self.conv(x), 0.2) * (1 + self.scale(ws[:, 0]))[:, :, None, None]
            y = self.torgb(noisy(x, noise_mode))
            return x, y if img is None else img + y

    class Synthesis(torch.nn.Module):
        def __init__(self, w_dim):
            super().__init__()
            self.block_resolutions = [4, 8, 16]
            self.num_ws = 6
            for incoming, size in zip([0, 5, 5], self.block_resolutions):
                setattr(self, f"b{size}", Block(incoming, 5, w_dim))

        def forward(self, ws, **block_kwargs):
            assert ws.shape[1] == self.num_ws and ws.dtype == torch.float32
            x = img = None
            place = 0
            for size in self.block_resolutions:
                block = getattr(self, f"b{size}")
                x, img = block(x, img, ws.narrow(1, place, block.num_conv + block.num_torgb), **block_kwargs)
                place += block.num_conv
            return img

    class Generator(torch.nn.Module):
        def __init__(self, z_dim=6, c_dim=0, w_dim=7):
            super().__init__()
            self.z_dim, self.c_dim = z_dim, c_dim
            self.synthesis = Synthesis(w_dim)
            self.mapping = Mapping(z_dim, c_dim, w_dim, self.synthesis.num_ws)
"""
NOISE = """
    import torch

    def noisy(x, mode):
        return x + 0.1 * torch.randn_like(x) if mode == "random" else x
"""


def repository(folder: Path) -> Path:
    """A clone of the code that `pickled` names."""
    for name, text in (("training_of_mine/networks.py", NETWORKS), ("own_ops/noise.py", NOISE)):
        path = folder / "clone" / name
        path.parent.mkdir(parents=True)
        path.write_text(dedent(text))
        (path.parent / "__init__.py").touch()
    return folder / "clone"


def pickled(clone: Path, path: Path, classes: int = 0) -> Path:
    """{"G_ema": ...}, of classes that are to be found nowhere afterwards."""
    sys.path.insert(0, str(clone))
    networks = importlib.import_module("training_of_mine.networks")
    with Seeds(0).fork("pickled"):
        network = networks.Generator(c_dim=classes)
    for one in network.synthesis.parameters():
        one.data.mul_(1.5)
    path.write_bytes(pickle.dumps({"G": None, "G_ema": network}))
    sys.path.remove(str(clone))
    for name in [name for name in sys.modules if name.startswith(("training_of_mine", "own_ops"))]:
        del sys.modules[name]
    return path


def dumped(value: object, path: Path) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path
