"""A layer whose output is a sparse code: the non-negative lasso over a convolutional dictionary as an nn.Module.

Teti, Kenyon, Migliori and Moore, "LCANets", ICML 2022; Dibbo, Breuer, Moore and Teti, "Improving robustness to model
inversion attacks via sparse coding architectures", ECCV 2024.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.grad import conv2d_weight

from fedsplit.numerics.active_set import ActiveSet
from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.numerics.lasso import Lasso, Solution, Solver
from fedsplit.numerics.parts import in_parts
from fedsplit.numerics.products import Products
from fedsplit.numerics.sparse import SOLVERS

GradientKind = Literal["none", "unroll", "implicit"]
Padding = Literal["same", "valid"]

_LEAST_DEVIATION = 1e-5
"""Beside one plus its mean: below it an image is constant but for rounding."""


class SparseCodingLayer(nn.Module):
    """(n, channels, height, width) -> codes (n, features, height', width'), of least 1/2 |x - D a|^2 + lambda |a|_1.

    x is the image, standardised where asked for. The objective is minimised for every sample by itself, and a sample's
    codes are those where its own gap was small enough, whatever its batch.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        kernel_size: int = 5,
        stride: int = 1,
        lambda_: float = 0.5,
        solver: str | Solver = "fista",
        *,
        standardise: bool = True,
        padding: Padding = "same",
        nonnegative: bool = True,
        gradient: GradientKind = "none",
        gradient_tolerance: float | None = None,
        trainable: bool = False,
    ) -> None:
        """lambda_: on the scale of x. solver: one of `SOLVERS` or an own one. standardise: each sample to zero mean and
        unit (unbiased) deviation over channels and pixels, which takes two numbers away from it. padding: same needs an
        odd kernel. gradient: what reaches the layers before, and the dictionary where it is trainable; none; through
        every iteration of the solver; or from the optimality conditions of the codes, in memory that does not grow
        with the iterations. gradient_tolerance: how exactly that last one is solved for, as in `ActiveSet`. trainable:
        whether an optimiser moves the dictionary.

        Initial weights come from torch's global generator. Raises ValueError for sizes that cannot be.
        """
        super().__init__()
        _must_be_one_of("padding", padding, get_args(Padding))
        _must_be_one_of("gradient", gradient, get_args(GradientKind))
        if isinstance(solver, str):
            _must_be_one_of("solver", solver, SOLVERS)
        if padding == "same" and kernel_size % 2 == 0:
            raise ValueError(f"padding same needs an odd kernel, not {kernel_size}")
        if lambda_ <= 0:
            raise ValueError(f"lambda must be positive, not {lambda_}")
        self.stride = stride
        self.padding = kernel_size // 2 if padding == "same" else 0
        self.lambda_ = lambda_
        self.solver: Solver = SOLVERS[solver] if isinstance(solver, str) else solver
        self.standardise = standardise
        self.nonnegative = nonnegative
        self.gradient: GradientKind = gradient
        self.gradient_tolerance = gradient_tolerance
        weights = nn.init.trunc_normal_(torch.empty(features, channels, kernel_size, kernel_size))
        self.dictionary: Tensor
        if trainable:
            self.dictionary = nn.Parameter(normalised(weights))
        else:
            self.register_buffer("dictionary", normalised(weights))
        self._bounded: tuple[Tensor, float] = (torch.empty(0), 0.0)

    @property
    def atoms(self) -> Tensor:
        """(features, channels, kernel, kernel): the dictionary, every atom of unit norm over its channels and pixels.

        They are normalised where they are used, so that any weights are a valid dictionary: those of an optimiser's
        step, and those that a federation averaged.
        """
        return normalised(_wide(self.dictionary))

    def forward(self, images: Tensor) -> Tensor:
        """Everything here runs in float32 (or wider), under autocast too: a solver's small steps are lost in 8 bits of
        mantissa. A sample whose gap is still above the solver's tolerance after its last iteration is coded so; `solve`
        tells the gaps."""
        if images.is_meta:  # No values to iterate on; the drive has the shape of the codes.
            return self.lasso(images).dictionary.correlate(images)
        with _full_precision(images):
            lasso = self.lasso(images)
            if self.gradient == "none" or not torch.is_grad_enabled():
                return self.solver.solve(lasso).codes
            if self.gradient == "unroll":
                return self.solver.unrolled(lasso)
            codes: Tensor = _ImplicitCodes.apply(
                lasso.images, lasso.dictionary.atoms, _Problem(lasso, self.solver, self.gradient_tolerance)
            )
            return codes

    def lasso(self, images: Tensor) -> Lasso:
        """The problem that images, as they come, pose to this layer."""
        dictionary = self._dictionary_for(images)
        bound = 0.0 if images.is_meta else self._bound(dictionary)
        return Lasso(self.standardised(_wide(images)), dictionary, self.lambda_, self.nonnegative, bound)

    def standardised(self, images: Tensor) -> Tensor:
        """What is coded: images, or each with zero mean and unit deviation; a constant image becomes zero."""
        if not self.standardise:
            return images
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        centred = images - mean
        variance = centred.square().sum(dim=(1, 2, 3), keepdim=True) / max(1, images.shape[1:].numel() - 1)
        least = _LEAST_DEVIATION * (1 + mean.detach().abs())
        return centred / torch.maximum(variance, least.square()).sqrt()

    def solve(self, images: Tensor, start: Tensor | None = None) -> Solution:
        """Codes with each sample's relative duality gap, without a graph; start: a first guess at the codes."""
        with _full_precision(images):
            return self.solver.solve(self.lasso(images), start)

    def reconstruct(self, codes: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """D codes, on the scale of `standardised`. size: (height, width) of the images, where the stride leaves a
        choice."""
        with _full_precision(codes):
            return Dictionary(self.atoms, size or self._size(codes), self.stride, self.padding).synthesise(codes)

    def objective(self, images: Tensor, codes: Tensor) -> Tensor:
        """(n,): 1/2 |x - D a|^2 + lambda |a|_1."""
        with _full_precision(images):
            return self.lasso(images).objective(codes)

    @torch.no_grad()
    def hebbian_step(self, images: Tensor, codes: Tensor, rate: float) -> None:
        """Moves every atom towards what its codes left unexplained: rate / (N + 1) times the sum of code x error patch,
        with N the number of its non-zero codes in the batch."""
        with _full_precision(images):
            dictionary = self._dictionary_for(images)
            standard = self.standardised(_wide(images))

            def unexplained(fast: Products, rows: slice) -> Tensor:
                own = fast.arrange(codes[rows])
                return _pull_on_atoms(dictionary, own, fast.residual(standard[rows], own))

            patches = torch.stack(in_parts(dictionary, len(images), unexplained)).sum(dim=0)
            active = (codes != 0).to(codes).sum(dim=(0, 2, 3))[:, None, None, None]
            self.dictionary.copy_(normalised(dictionary.atoms + rate / (active + 1) * patches))

    def extra_repr(self) -> str:
        """For printing."""
        features, channels, kernel, _ = self.dictionary.shape
        return f"{channels}, {features}, kernel_size={kernel}, stride={self.stride}, lambda_={self.lambda_}"

    def _dictionary_for(self, images: Tensor) -> Dictionary:
        return Dictionary(self.atoms, (images.shape[-2], images.shape[-1]), self.stride, self.padding)

    def _size(self, codes: Tensor) -> tuple[int, int]:
        kernel = self.dictionary.shape[-1]
        height, width = ((side - 1) * self.stride + kernel - 2 * self.padding for side in codes.shape[2:])
        # A padded layer of stride s has codes for images of s times as many pixels.
        return (height + self.stride - 1, width + self.stride - 1) if self.padding else (height, width)

    def _bound(self, dictionary: Dictionary) -> float:
        # The spectrum is asked for anew only when the weights have changed.
        weights, (known, bound) = self.dictionary.detach(), self._bounded
        same = weights.device == known.device and weights.dtype == known.dtype and torch.equal(weights, known)
        if not same:
            bound = dictionary.bound()
            self._bounded = (weights.clone(), bound)
        return bound


def sparse_layer(blocks: nn.Module, name: str) -> SparseCodingLayer:
    """The one that makes this block, whatever else may be around it."""
    return next(part for part in blocks.get_submodule(name).modules() if isinstance(part, SparseCodingLayer))


def with_gradients(network: nn.Module) -> nn.Module:
    """The same network, whose sparse layers pass exact gradients on also where its training had no use for them."""
    for module in network.modules():
        if isinstance(module, SparseCodingLayer) and module.gradient == "none":
            module.gradient, module.gradient_tolerance = "implicit", None
    return network


def _must_be_one_of(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value}")


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _full_precision(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _pull_on_atoms(dictionary: Dictionary, codes: Tensor, images: Tensor) -> Tensor:
    """The gradient of <D codes, images> with respect to the atoms."""
    # D is the adjoint of a convolution of the images, which is what torch can differentiate without computing it.
    return conv2d_weight(images, dictionary.atoms.shape, codes, dictionary.stride, dictionary.padding)


@dataclass(frozen=True)
class _Problem:
    lasso: Lasso
    solver: Solver
    gradient_tolerance: float | None


class _ImplicitCodes(torch.autograd.Function):
    """The codes as a function of images and atoms, differentiated at the solution.

    On its active set S the solution is smooth: D_S'(D a - x) = -lambda sign(a). A step dx, dD thus moves it by
    (D_S'D_S)^-1 (dD'(x - D a) + D_S'(dx - dD a)), whatever iterations led there.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, atoms: Tensor, problem: _Problem) -> Tensor:
        codes = problem.solver.solve(problem.lasso).codes
        ctx.save_for_backward(images, codes)
        ctx.tolerance = problem.gradient_tolerance  # pyright: ignore[reportAttributeAccessIssue]
        ctx.dictionary = replace(problem.lasso.dictionary, atoms=atoms.detach())  # pyright: ignore[reportAttributeAccessIssue]
        return codes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        images, codes = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        dictionary: Dictionary = ctx.dictionary  # pyright: ignore[reportAttributeAccessIssue]
        atoms_are_asked_for: bool = ctx.needs_input_grad[1]  # pyright: ignore[reportAttributeAccessIssue]
        tolerance: float | None = ctx.tolerance  # pyright: ignore[reportAttributeAccessIssue]

        def differentiated(fast: Products, rows: slice) -> tuple[Tensor, Tensor | None]:
            own = fast.arrange(codes[rows])
            direction = ActiveSet(dictionary, own != 0, tolerance).solve(grad_outputs[0][rows])
            image_gradient = fast.synthesise(direction)
            if not atoms_are_asked_for:
                return image_gradient, None
            residual = fast.residual(images[rows], own)
            pull = _pull_on_atoms(dictionary, direction, residual) - _pull_on_atoms(dictionary, own, image_gradient)
            return image_gradient, pull

        with _full_precision(images):
            parts = in_parts(dictionary, len(images), differentiated)
        pulls = [pull for _, pull in parts if pull is not None]
        return torch.cat([gradient for gradient, _ in parts]), torch.stack(pulls).sum(dim=0) if pulls else None, None
