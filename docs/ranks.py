"""Makes docs/ranks.png: what the last hidden features of a network tell when only their first principal components are
left, on real digits (FEDSPLIT_DATA), and what one number tells of points in the plane: `python docs/ranks.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.datasets.mnist import Mnist
from fedsplit.models.lenet import LeNet
from fedsplit.numerics.inversion_error import ideal_inversion_error
from fedsplit.numerics.ridge import fit_ridge
from fedsplit.report.canvas import INK, SOFT, canvas, style
from fedsplit.seeding import Seeds

HERE = Path(__file__).parent
RANKS = (1, 2, 3, 5, 8, 12, 20, 40, 84)
TRAINED, KNOWN, ATTACKED = 8000, 5000, 2000
EPOCHS, BATCH = 4, 64
COLOURS = ("#0072B2", "#D55E00", "#009E73")


@dataclass(frozen=True)
class Rank:
    """rank: of the features that are left. accuracy: of the network's own last layer on them. error: the mean squared
    error per pixel of the best ridge from them. floor: of the best affine guess from any so many affine numbers."""

    rank: int
    accuracy: float
    error: float
    floor: float


def main() -> None:
    ranks, anchor = truncated()
    for one in ranks:
        print(f"rank {one.rank}: accuracy {one.accuracy:.3f}, mse {one.error:.4f}, at least {one.floor:.4f}")
    print(f"mean image: mse {anchor:.4f}")
    with style():
        figure = canvas(11.5, 3.6)
        axes = figure.subplots(1, 4, width_ratios=(1.35, 1, 1, 1))
        _curve(axes[0], ranks, anchor)
        points, labels = clusters()
        _cloud(axes[1], points, labels, "Points of three classes")
        for place, rank in zip(axes[2:], (2, 1), strict=True):
            guess, accuracy, error, least = seen_through(points, labels, rank)
            _cloud(place, guess, labels, f"Rebuilt from {rank} number{'s' if rank > 1 else ''}")
            told = f"accuracy {100 * accuracy:.0f} %\nerror {error:.3f}, at least {least:.3f}"
            place.set_xlabel(told, fontsize=8.5)
            print(f"toy, rank {rank}: accuracy {accuracy:.3f}, mse {error:.4f}, at least {least:.4f}")
        figure.savefig(HERE / "ranks.png", dpi=110)


def truncated() -> tuple[list[Rank], float]:
    """Of a network trained on some digits, attacked with others, at images that it has not seen."""
    images = Mnist(limit=TRAINED + KNOWN + ATTACKED).load()
    parts = (TRAINED, KNOWN, ATTACKED)
    pixels, labels = images.pixels.split(parts), images.labels.split(parts)
    network = _trained(pixels[0], labels[0])
    hidden, last = network[:-1], network[-1]
    with torch.no_grad():
        known, attacked = hidden(pixels[1]).double(), hidden(pixels[2]).double()
    mean = known.mean(dim=0)
    axes = torch.linalg.svd(known - mean, full_matrices=False).Vh
    spectrum = torch.linalg.eigvalsh(torch.cov(pixels[2].flatten(1).double().T)).flip(0)
    found: list[Rank] = []
    for rank in RANKS:
        own = axes[:rank]
        left = mean + (attacked - mean) @ own.T @ own
        with torch.no_grad():
            right = (last(left.float()).argmax(dim=1) == labels[2]).double().mean()
        ridge = fit_ridge((known - mean) @ own.T, pixels[1].flatten(1))
        guess = ridge.predict(((attacked - mean) @ own.T).to(ridge.weight)).clamp(0, 1)
        error = (guess - pixels[2].flatten(1)).square().mean()
        found.append(Rank(rank, float(right), float(error), float(spectrum[rank:].sum()) / len(spectrum)))
    anchor = (pixels[1].mean(dim=0) - pixels[2]).square().mean()
    return found, float(anchor)


def _trained(pixels: Tensor, labels: Tensor) -> nn.Sequential:
    seeds = Seeds(0).child("ranks")
    with seeds.fork("model"):
        network = nn.Sequential(*LeNet().blocks((1, 28, 28), 10).values())
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    rng = seeds("batches")
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pixels), generator=rng).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(pixels[rows]), labels[rows]).backward()
            optimizer.step()
    return network.eval().requires_grad_(requires_grad=False)


def clusters() -> tuple[Tensor, Tensor]:
    """(600, 2) points around the corners of a triangle, one class each, and their labels."""
    rng = Seeds(0)("clusters")
    labels = torch.arange(3).repeat_interleave(200)
    corners = torch.tensor([[0.0, 1.0], [-0.87, -0.5], [0.87, -0.5]])
    return corners[labels] + 0.22 * torch.randn(600, 2, generator=rng), labels


def seen_through(points: Tensor, labels: Tensor, rank: int) -> tuple[Tensor, float, float, float]:
    """What is rebuilt by the best affine map from `rank` linear numbers that a classifier has learned to use, its
    accuracy, the error per coordinate, and the least that any affine guess has."""
    with Seeds(0).fork("toy"):
        encoder, head = nn.Linear(2, rank), nn.Sequential(nn.Tanh(), nn.Linear(rank, 3))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.03)
    for _ in range(600):
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(points)), labels).backward()
        optimizer.step()
    with torch.no_grad():
        code = encoder(points)
        accuracy = (head(code).argmax(dim=1) == labels).double().mean()
    ridge = fit_ridge(code.double(), points.double(), strengths=(1e-10,))
    guess = ridge.predict(code.double())
    covariance = torch.cov(points.double().T, correction=0)
    least = ideal_inversion_error(encoder.weight.detach().double(), covariance)
    return guess.float(), float(accuracy), float((guess - points).square().mean()), least


def _curve(axes: Axes, ranks: Sequence[Rank], anchor: float) -> None:
    numbers = [one.rank for one in ranks]
    axes.plot(numbers, [one.error for one in ranks], color=COLOURS[1], marker="s", label="ridge from these")
    axes.plot(numbers, [one.floor for one in ranks], color=SOFT, linestyle=":", label="best affine code")
    axes.axhline(anchor, color=INK, linestyle="--", linewidth=1, label="mean image")
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel("principal components of the features that are left")
    axes.set_ylabel("squared error per pixel", color=COLOURS[1])
    axes.set_title("Digits: leak and accuracy by rank")
    axes.legend(fontsize=8, loc="lower center")
    other = axes.twinx()
    other.grid(visible=False)
    other.plot(numbers, [100 * one.accuracy for one in ranks], color=COLOURS[0], marker="o")
    other.set_ylabel("accuracy, %", color=COLOURS[0])


def _cloud(axes: Axes, points: Tensor, labels: Tensor, title: str) -> None:
    for label, colour in enumerate(COLOURS):
        own = points[labels == label]
        axes.scatter(own[:, 0], own[:, 1], s=6, color=colour, alpha=0.5, linewidths=0)
    axes.set_xlim(-1.8, 1.8)
    axes.set_ylim(-1.6, 2.0)
    axes.set_aspect("equal")
    axes.set_title(title)


if __name__ == "__main__":
    main()
