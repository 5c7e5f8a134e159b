"""What is coded: digits by the two sparse layers of SCA, radiographs by a wide layer; all real images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from torch import Tensor
from torch.nn import functional as F

from fedsplit.datasets.medical_mnist import MedicalMnist
from fedsplit.datasets.mnist import Mnist
from fedsplit.layers.sparse_coding import GradientKind, SparseCodingLayer
from fedsplit.numerics.fista import Fista
from fedsplit.numerics.lasso import Solver
from fedsplit.records.images import Images
from fedsplit.seeding import Seeds

KERNEL = 5
_ENOUGH = 200
"""Images that are read: copies among them are dropped, and every class must be there."""
_SEEDS = Seeds(0).child("benchmarks", "sparse")


@dataclass(frozen=True)
class Problem:
    """Images (n, channels, height, width) as they come to a layer of so many features. faster: how many times the speed
    of the published dynamics is to be reached."""

    images: Tensor
    features: int
    lambda_: float
    faster: float

    @property
    def name(self) -> str:
        """Shape of the images, features, lambda."""
        return f"{'x'.join(map(str, self.images.shape))} -> {self.features}, lambda {self.lambda_:g}"

    def layer(self, solver: Solver, gradient: GradientKind = "none") -> SparseCodingLayer:
        """Random atoms, the same ones for every lambda, solver and gradient."""
        channels = self.images.shape[1]
        with _SEEDS.fork("dictionary", channels, self.features):
            return SparseCodingLayer(
                channels,
                self.features,
                KERNEL,
                lambda_=self.lambda_,
                solver=solver,
                gradient=gradient,
                trainable=gradient != "none",
            )


@cache
def digits() -> Images:
    """MNIST, the same images in every run. Raises DataError where the files are missing."""
    return Mnist(limit=_ENOUGH).load()


@cache
def scans() -> Images:
    """Medical MNIST, likewise."""
    return MedicalMnist(limit=_ENOUGH, near_duplicates=None).load()


def problems(lambda_: float, quick: bool) -> Iterator[Problem]:
    """The second layer codes the first one's batch-normalised codes."""
    small, large = digits().pixels[: 2 if quick else 32], scans().pixels[: 2 if quick else 16]
    first = Problem(small, 16, lambda_, faster=60)
    codes = first.layer(Fista(1e-3)).solve(small).codes
    normal = F.batch_norm(codes, None, None, training=True)
    yield from (first, Problem(normal, 28, lambda_, faster=100), Problem(large, 64, lambda_, faster=200))
