"""Makes docs/atoms.png: a dictionary before and after it learned from real images (FEDSPLIT_DATA), by nothing but its
own Hebbian update: `python docs/atoms.py`."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from fedsplit.datasets.medical_mnist import MedicalMnist
from fedsplit.datasets.mnist import Mnist
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.numerics.fista import Fista
from fedsplit.seeding import Seeds

HERE = Path(__file__).parent
STEPS = (0, 40, 400)
FEATURES, KERNEL, COLUMNS = 32, 9, 8


def main() -> None:
    sources = {
        "MNIST": Mnist(limit=2000).load().pixels,
        "Medical MNIST": MedicalMnist(limit=2000, image_size=28, near_duplicates=None).load().pixels,
    }
    figure = Figure(figsize=(2.4 * len(STEPS), 1.35 * len(sources)), dpi=110, facecolor="white")
    for row, (name, images) in enumerate(sources.items()):
        for column, (atoms, objective) in enumerate(learned(images)):
            axes = figure.add_axes(
                ((column + 0.02) / len(STEPS), 1 - (row + 0.84) / len(sources), 0.96 / len(STEPS), 0.8 / len(sources))
            )
            axes.imshow(mosaic(atoms).numpy(), cmap="gray", interpolation="nearest", aspect="equal")
            axes.axis("off")
            label = f"{name}, {STEPS[column]} steps, objective {objective:.0f}"
            place = ((column + 0.5) / len(STEPS), 1 - (row + 0.93) / len(sources))
            figure.text(*place, label, ha="center", va="center", fontsize=7)
            print(label)
    figure.savefig(HERE / "atoms.png")


def learned(images: Tensor) -> list[tuple[Tensor, float]]:
    """The atoms after each of STEPS updates on batches of 64, and the mean objective of the first 256 images."""
    seeds, states = Seeds(0).child("atoms"), list[tuple[Tensor, float]]()
    with seeds.fork("dictionary"):
        layer = SparseCodingLayer(1, FEATURES, KERNEL, stride=2, solver=Fista(0.02, 50))
    rng = seeds("batches")
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            objective = layer.objective(images[:256], layer(images[:256])).mean().item()
            states.append((layer.atoms[:, 0].clone(), objective))
        batch = images[torch.randint(len(images), (64,), generator=rng)]
        layer.hebbian_step(batch, layer(batch), rate=0.1)
    return states


def mosaic(atoms: Tensor) -> Tensor:
    """(features, kernel, kernel) -> one picture, every atom on a scale of its own with zero in the middle."""
    scaled = atoms / atoms.abs().amax(dim=(1, 2), keepdim=True)
    framed = torch.nn.functional.pad(scaled, (1, 1, 1, 1), value=1.0)
    rows = framed.unflatten(0, (-1, COLUMNS))
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


if __name__ == "__main__":
    main()
