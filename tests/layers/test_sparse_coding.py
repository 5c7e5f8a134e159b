"""The layer against its definition: what it codes, how it is differentiated, how its dictionary learns."""

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn import functional as F

from fedsplit.layers.sparse_coding import GradientKind, Padding, SparseCodingLayer
from fedsplit.numerics.dictionary import normalised
from fedsplit.numerics.fista import Fista
from fedsplit.numerics.lasso import Solver
from fedsplit.numerics.lca import Lca
from fedsplit.numerics.sparse import SOLVERS
from fedsplit.numerics.spectral import Spectral
from fedsplit.seeding import Seeds
from fedsplit.split import split

CONVERGED = Fista(tolerance=0.0, iterations=400)
GRADIENTS: list[GradientKind] = ["none", "unroll", "implicit"]


def layer_of(
    channels: int = 1,
    features: int = 4,
    kernel_size: int = 3,
    stride: int = 1,
    lambda_: float = 0.5,
    solver: str | Solver = "fista",
    standardise: bool = True,
    padding: Padding = "same",
    nonnegative: bool = True,
    gradient: GradientKind = "none",
    trainable: bool = False,
    seed: int = 0,
) -> SparseCodingLayer:
    with Seeds(seed).fork("layer"):
        return SparseCodingLayer(
            channels,
            features,
            kernel_size,
            stride,
            lambda_,
            solver,
            standardise=standardise,
            padding=padding,
            nonnegative=nonnegative,
            gradient=gradient,
            trainable=trainable,
        )


def images_of(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=Seeds(seed)("images"), dtype=dtype)


class TestCodes:
    def test_images_are_brought_to_zero_mean_and_unit_unbiased_deviation(self):
        images = images_of(3, 2, 7, 6, dtype=torch.float64)
        deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        torch.testing.assert_close(layer_of(2).standardised(images), (images - mean) / deviation)
        assert torch.equal(layer_of(2, standardise=False).standardised(images), images)

    def test_brightness_and_contrast_do_not_reach_the_codes(self):
        images = images_of(2, 1, 8, 8, dtype=torch.float64)
        layer = layer_of(solver=CONVERGED).double()
        torch.testing.assert_close(layer(3 * images - 1), layer(images), rtol=0, atol=1e-9)
        plain = layer_of(standardise=False, solver=CONVERGED).double()
        assert (plain(3 * images - 1) - plain(images)).abs().max() > 0.1

    @pytest.mark.parametrize("padding", ["same", "valid"])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_reconstruction_and_objective_are_their_definitions(self, padding: Padding, stride: int):
        layer = layer_of(2, stride=stride, padding=padding).double()
        layer.dictionary.mul_(3)
        images = images_of(2, 2, 8, 9, dtype=torch.float64)
        codes = layer(images)
        border = 1 if padding == "same" else 0
        atoms = layer.dictionary / layer.dictionary.flatten(1).norm(dim=1)[:, None, None, None]
        whole = F.conv_transpose2d(codes, atoms, stride=stride)
        whole = F.pad(whole, (0, 11 - whole.shape[3], 0, 10 - whole.shape[2]))
        expected = whole[:, :, border : border + 8, border : border + 9]
        torch.testing.assert_close(layer.reconstruct(codes, (8, 9)), expected)
        error = layer.standardised(images) - expected
        objective = 0.5 * error.square().sum((1, 2, 3)) + 0.5 * codes.sum((1, 2, 3))
        torch.testing.assert_close(layer.objective(images, codes), objective)

    def test_without_a_size_a_reconstruction_has_stride_times_the_places_of_its_codes(self):
        assert layer_of(stride=2).reconstruct(torch.rand(1, 4, 4, 5)).shape == (1, 1, 8, 10)
        assert layer_of(stride=2, padding="valid").reconstruct(torch.rand(1, 4, 3, 4)).shape == (1, 1, 7, 9)
        assert layer_of().reconstruct(torch.rand(1, 4, 5, 6)).shape == (1, 1, 5, 6)

    def test_codes_are_the_solvers_to_the_gap_it_promises(self):
        layer, images = layer_of(3), images_of(4, 3, 10, 10)
        solution = layer.solve(images)
        assert torch.equal(layer(images), solution.codes)
        assert (solution.codes >= 0).all()
        assert (solution.gap <= 1e-3).all()
        assert (layer.objective(images, solution.codes) < layer.objective(images, 0 * solution.codes)).all()
        exact = layer_of(3, solver=Fista(1e-6, 5000)).solve(images)
        assert (layer.solve(images, exact.codes).iterations <= solution.iterations).all()

    def test_signed_codes_have_both_signs(self):
        codes = layer_of(nonnegative=False)(images_of(2, 1, 8, 8))
        assert codes.min() < 0 < codes.max()

    @pytest.mark.parametrize("name", SOLVERS)
    def test_every_solver_lowers_the_objective(self, name: str):
        layer, images = layer_of(solver=name, padding="valid"), images_of(2, 1, 8, 8)
        least = layer_of(solver=Fista(1e-6, 5000), padding="valid")(images)
        codes = layer(images)
        torch.testing.assert_close(layer.objective(images, codes), layer.objective(images, least), rtol=0.02, atol=0)

    @pytest.mark.parametrize("gradient", GRADIENTS)
    @pytest.mark.parametrize(
        "solver", [Fista(1e-3, 30), Spectral(1e-3, 30), Lca(tau=10, steps=30)], ids=["fista", "spectral", "lca"]
    )
    @pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
    def test_a_constant_image_has_no_codes_and_no_gradient(self, gradient: GradientKind, solver: Solver, value: float):
        layer = layer_of(gradient=gradient, solver=solver, trainable=True)
        images = images_of(2, 1, 8, 8)
        images[1] = value
        codes = layer(images.requires_grad_())
        assert (codes[1] == 0).all()
        assert codes.isfinite().all()
        assert layer.solve(images).gap.isfinite().all()
        if gradient == "none":
            return
        codes.square().sum().backward()
        assert images.grad is not None
        assert layer.dictionary.grad is not None
        assert (images.grad[1] == 0).all()
        assert images.grad[0].isfinite().all()
        assert (images.grad[0] != 0).any()
        assert layer.dictionary.grad.isfinite().all()

    @pytest.mark.parametrize("gradient", GRADIENTS)
    def test_autocast_changes_nothing(self, gradient: GradientKind):
        layer = layer_of(gradient=gradient, solver=Fista(1e-4, 40))
        images = images_of(2, 1, 8, 8).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            codes = layer(images)
            narrow = layer(images.bfloat16())
            solution = layer.solve(images)
        assert codes.dtype == narrow.dtype == torch.float32
        assert torch.equal(codes, layer(images))
        assert torch.equal(solution.gap, layer.solve(images).gap)
        assert torch.equal(narrow, layer(images.bfloat16().float()))
        if gradient != "none":
            (under,) = torch.autograd.grad(codes.square().sum(), images)
            (plain,) = torch.autograd.grad(layer(images).square().sum(), images)
            assert torch.equal(under, plain)

    @pytest.mark.parametrize("padding", ["same", "valid"])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    @pytest.mark.parametrize("gradient", GRADIENTS)
    def test_without_values_the_shape_is_known(self, padding: Padding, stride: int, gradient: GradientKind):
        layer = layer_of(2, stride=stride, padding=padding, gradient=gradient, solver=Fista(1e-1, 3))
        images = images_of(2, 2, 9, 8)
        meta = copy.deepcopy(layer).to("meta")(images.to("meta"))
        assert meta.is_meta
        assert meta.shape == layer(images).shape


class TestModule:
    def test_a_model_is_cut_behind_the_layer(self):
        layer = layer_of(gradient="implicit", trainable=True)
        blocks: OrderedDict[str, nn.Module] = OrderedDict(
            sparse=layer, head=nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 3))
        )
        segments = split(blocks, "sparse", (1, 8, 8))
        assert segments.cut_shape == (4, 8, 8)
        images = images_of(2, 1, 8, 8)
        assert torch.equal(segments.client(images), layer(images))
        segments.server(segments.client(images)).sum().backward()
        assert layer.dictionary.grad is not None

    @pytest.mark.parametrize("trainable", [True, False])
    def test_the_dictionary_is_all_there_is_to_save(self, trainable: bool):
        layer, other = (layer_of(trainable=trainable, seed=seed) for seed in (0, 1))
        images = images_of(2, 1, 8, 8)
        assert list(layer.state_dict()) == ["dictionary"]
        assert [name for name, _ in layer.named_parameters()] == (["dictionary"] if trainable else [])
        assert not torch.equal(other(images), layer(images))
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other(images), layer(images))

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
    @pytest.mark.parametrize("trainable", [True, False])
    def test_copies_are_equal_and_independent(
        self, copied: Callable[[SparseCodingLayer], SparseCodingLayer], trainable: bool
    ):
        layer, images = layer_of(trainable=trainable), images_of(2, 1, 8, 8)
        before = layer(images)
        double = copied(layer)
        assert torch.equal(double(images), before)
        with torch.no_grad():
            double.dictionary.copy_(layer_of(seed=1).dictionary)
        assert torch.equal(double(images), layer_of(seed=1)(images))
        assert torch.equal(layer(images), before)

    @pytest.mark.parametrize("gradient", GRADIENTS)
    def test_the_scale_of_the_weights_means_nothing(self, gradient: GradientKind):
        layer = layer_of(gradient=gradient, solver=Fista(0.0, 200)).double()
        images = images_of(2, 1, 8, 8, dtype=torch.float64)
        codes = layer(images)
        layer.dictionary.mul_(torch.tensor([0.01, 0.5, 3.0, 200.0])[:, None, None, None])
        torch.testing.assert_close(layer(images), codes, rtol=0, atol=1e-8)
        torch.testing.assert_close(layer.atoms.flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))

    def test_first_atoms_have_unit_norm_and_come_from_the_stream(self):
        layer = layer_of(features=16)
        torch.testing.assert_close(layer.dictionary.flatten(1).norm(dim=1), torch.ones(16))
        assert torch.equal(layer.dictionary, layer_of(features=16).dictionary)
        assert not torch.equal(layer.dictionary, layer_of(features=16, seed=1).dictionary)

    def test_the_step_knows_new_weights_however_they_came(self):
        """All atoms alike have an eigenvalue ten times that of random ones: with the old step, codes would diverge."""
        layer, images = layer_of(features=8, kernel_size=5, lambda_=0.1), images_of(2, 1, 8, 8)
        alike = 1 + 0.01 * torch.randn(8, 1, 5, 5, generator=Seeds(0)("alike"))

        def right() -> bool:
            lasso = layer.lasso(images)
            return lasso.bound == lasso.dictionary.bound()

        first = layer.dictionary.clone()
        assert right()
        layer.dictionary.copy_(alike)
        assert right()
        layer.load_state_dict({"dictionary": first})
        assert right()
        layer.dictionary.data.copy_(alike)
        assert right()
        assert layer(images).isfinite().all()
        layer.dictionary = first
        assert right()

    def test_weights_handed_in_for_one_call_have_a_step_of_their_own(self):
        layer, images = layer_of(features=8, kernel_size=5, lambda_=0.1), images_of(2, 1, 8, 8)
        for seed in range(12):
            # Half of them are nearly alike. Each is gone, and its memory free, before the next one comes.
            weights = torch.randn(8, 1, 5, 5, generator=Seeds(seed)("weights")) + 2 * (seed % 2)
            codes = functional_call(layer, {"dictionary": weights}, (images,))
            fresh = layer_of(features=8, kernel_size=5, lambda_=0.1)
            fresh.dictionary.copy_(weights)
            del weights
            assert torch.equal(codes, fresh(images))

    def test_it_tells_its_settings(self):
        text = repr(layer_of(3, 8, 5, 2, 0.25))
        assert text == "SparseCodingLayer(3, 8, kernel_size=5, stride=2, lambda_=0.25)"

    def test_sizes_that_cannot_be_are_refused(self):
        with pytest.raises(ValueError, match="odd kernel, not 4"):
            layer_of(kernel_size=4)
        assert layer_of(kernel_size=4, padding="valid")(images_of(1, 1, 8, 8)).shape == (1, 4, 5, 5)
        for lambda_ in (0.0, -0.5):
            with pytest.raises(ValueError, match=f"positive, not {lambda_}"):
                layer_of(lambda_=lambda_)


def differentiable(gradient: GradientKind, case: str) -> tuple[SparseCodingLayer, Tensor]:
    layers = {
        "same": layer_of(gradient=gradient, solver=CONVERGED, trainable=True),
        "strided, valid, two channels": layer_of(
            2, 5, stride=2, padding="valid", gradient=gradient, solver=CONVERGED, trainable=True
        ),
        "signed, two channels": layer_of(
            2, 3, lambda_=0.8, nonnegative=False, gradient=gradient, solver=CONVERGED, trainable=True
        ),
        "not standardised": layer_of(
            lambda_=0.3, standardise=False, gradient=gradient, solver=CONVERGED, trainable=True
        ),
    }
    layer = layers[case].double()
    size = (7, 7) if case.startswith("strided") else (6, 6)
    return layer, images_of(2, layer.dictionary.shape[1], *size, dtype=torch.float64)


cases = pytest.mark.parametrize(
    "case", ["same", "strided, valid, two channels", "signed, two channels", "not standardised"]
)


def gradients(layer: SparseCodingLayer, images: Tensor) -> tuple[Tensor, ...]:
    """Of a fixed weighting of the codes, with respect to images and dictionary."""
    images = images.clone().requires_grad_()
    codes = layer(images)
    weights = torch.randn(codes.shape, generator=Seeds(3)("weights"), dtype=codes.dtype)
    return torch.autograd.grad((weights * codes).sum(), (images, layer.dictionary))


class TestGradients:
    @cases
    def test_the_implicit_one_is_that_of_finite_differences(self, case: str):
        layer, images = differentiable("implicit", case)
        weights = (1.5 * layer.dictionary.detach()).requires_grad_()

        def codes(inputs: Tensor, dictionary: Tensor) -> Tensor:
            return functional_call(layer, {"dictionary": dictionary}, (inputs,))

        assert (layer(images) != 0).any()
        # Of codes converged to 1e-12, differences over 1e-5 are good to 1e-7.
        assert torch.autograd.gradcheck(
            codes, (images.requires_grad_(), weights), eps=1e-5, atol=1e-5, rtol=1e-5, fast_mode=True
        )

    @cases
    @pytest.mark.parametrize("solver", [CONVERGED, Spectral(0.0, 400)], ids=["fista", "spectral"])
    def test_the_implicit_one_is_that_through_every_iteration(self, case: str, solver: Solver):
        layer, images = differentiable("unroll", case)
        layer.solver = solver
        through = gradients(layer, images)
        implicit = gradients(*differentiable("implicit", case))
        for one, other in zip(implicit, through, strict=True):
            assert one.abs().max() > 1e-2
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)

    def test_through_the_dynamics_it_is_the_same(self):
        case = "strided, valid, two channels"
        layer, images = differentiable("unroll", case)
        layer.solver = Lca(tau=2, steps=600)
        for one, other in zip(gradients(layer, images), gradients(*differentiable("implicit", case)), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)

    def test_along_the_scale_of_an_atom_nothing_changes(self):
        layer, images = differentiable("implicit", "same")
        _, of_dictionary = gradients(layer, images)
        along = (of_dictionary * layer.dictionary).flatten(1).sum(1)
        torch.testing.assert_close(along, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-9)

    def test_one_asked_for_alone_is_the_same(self):
        layer, images = differentiable("implicit", "same")
        of_images, of_dictionary = gradients(layer, images)
        layer.dictionary.requires_grad_(False)
        inputs = images.clone().requires_grad_()
        weights = torch.randn(layer(images).shape, generator=Seeds(3)("weights"), dtype=torch.float64)
        (alone,) = torch.autograd.grad((weights * layer(inputs)).sum(), inputs)
        assert torch.equal(alone, of_images)
        layer.dictionary.requires_grad_()
        (alone,) = torch.autograd.grad((weights * layer(images)).sum(), layer.dictionary)
        assert torch.equal(alone, of_dictionary)

    def test_none_has_no_graph(self):
        layer = layer_of(trainable=True)
        images = images_of(2, 1, 8, 8).requires_grad_()
        assert not layer(images).requires_grad
        for gradient in GRADIENTS:
            layer.gradient = gradient
            layer.solver = Fista(1e-1, 5)
            assert not layer.solve(images).codes.requires_grad
            assert layer(images).requires_grad == (gradient != "none")
            with torch.no_grad():
                assert not layer(images).requires_grad

    def test_only_the_unrolled_ones_memory_grows_with_the_iterations(self):
        images = images_of(2, 1, 8, 8).requires_grad_()

        def kept(gradient: GradientKind, iterations: int) -> tuple[int, int]:
            sizes: list[int] = []

            def pack(tensor: Tensor) -> Tensor:
                sizes.append(tensor.numel() * tensor.element_size())
                return tensor

            with saved_tensors_hooks(pack, lambda tensor: tensor):
                layer_of(gradient=gradient, solver=Fista(0.0, iterations), trainable=True)(images)
            return len(sizes), sum(sizes)

        assert kept("implicit", 10) == kept("implicit", 80)
        assert kept("unroll", 80)[1] > 6 * kept("unroll", 10)[1]
        assert kept("implicit", 80)[1] < 0.05 * kept("unroll", 80)[1]


def unfolded_step(layer: SparseCodingLayer, images: Tensor, codes: Tensor, rate: float) -> Tensor:
    """The published update, patch by patch."""
    size = (images.shape[2], images.shape[3])
    error = layer.standardised(images) - layer.reconstruct(codes, size)
    kernel = layer.dictionary.shape[-1]
    patches = F.unfold(error, kernel, padding=layer.padding, stride=layer.stride)
    atoms = layer.dictionary / layer.dictionary.flatten(1).norm(dim=1)[:, None, None, None]
    moved: list[Tensor] = []
    for feature, atom in enumerate(atoms):
        own = codes[:, feature].flatten(1)
        change = sum(own[sample] @ patches[sample].T for sample in range(len(images)))
        weights = atom + rate / (int((own != 0).sum()) + 1) * torch.as_tensor(change).view_as(atom)
        moved.append(weights / weights.norm())
    return torch.stack(moved)


def digits(count: int) -> Tensor:
    return torch.as_tensor(load_digits().images[:count] / 16, dtype=torch.float32)[:, None]


def coder_of_digits() -> SparseCodingLayer:
    return layer_of(features=8, kernel_size=5, solver=Fista(tolerance=1e-2))


def trained(images: Tensor, steps: int) -> SparseCodingLayer:
    """From the same start, whatever the images."""
    layer = coder_of_digits()
    for step in range(steps):
        batch = images.roll(-30 * step, dims=0)[:30]
        layer.hebbian_step(batch, layer(batch), 1.0)
    return layer


def mean_objective(layer: SparseCodingLayer, images: Tensor) -> float:
    return layer.objective(images, layer(images)).mean().item()


class TestHebbianStep:
    @pytest.mark.parametrize("trainable", [True, False])
    @pytest.mark.parametrize(
        "layer",
        [
            layer_of(3),
            layer_of(2, 5, stride=2, padding="valid"),
            layer_of(kernel_size=5, stride=2, nonnegative=False),
        ],
        ids=["same", "valid", "signed"],
    )
    def test_it_is_the_published_update(self, layer: SparseCodingLayer, trainable: bool):
        layer = copy.deepcopy(layer).double()
        layer.dictionary.mul_(2)
        if trainable:
            weights = layer.dictionary
            del layer.dictionary
            layer.dictionary = nn.Parameter(weights)
        images = images_of(3, layer.dictionary.shape[1], 9, 8, dtype=torch.float64)
        codes = layer(images)
        expected = unfolded_step(layer, images, codes, 0.3)
        before = normalised(layer.dictionary.detach())
        layer.hebbian_step(images, codes, 0.3)
        torch.testing.assert_close(layer.dictionary.detach(), expected, rtol=0, atol=1e-12)
        assert (layer.dictionary - before).abs().max() > 1e-3
        assert layer.dictionary.requires_grad == trainable
        assert layer.dictionary.grad is None

    def test_an_atom_that_no_code_uses_stays(self):
        layer = layer_of()
        images = images_of(2, 1, 8, 8)
        codes = layer(images)
        codes[:, 1] = 0
        before = layer.dictionary.clone()
        layer.hebbian_step(images, codes, 0.5)
        torch.testing.assert_close(layer.dictionary[1], before[1])
        assert (layer.dictionary[0] - before[0]).abs().max() > 1e-3

    def test_steps_lower_the_objective_of_images_that_they_have_not_seen(self):
        seen, unseen = digits(150).split([90, 60])
        before = mean_objective(coder_of_digits(), unseen)
        assert mean_objective(trained(seen, 6), unseen) < 0.75 * before

    def test_the_average_of_dictionaries_is_a_dictionary_as_good_as_each(self):
        """Three start from the same and learn from different digits, as clients do between two averages."""
        images = digits(180)
        layers = [trained(own, 4) for own in images.split(60)]
        average = coder_of_digits()
        before = mean_objective(average, images)
        average.dictionary.copy_(torch.stack([layer.dictionary for layer in layers]).mean(dim=0))
        reached = [mean_objective(layer, images) for layer in layers]
        assert (average.dictionary.flatten(1).norm(dim=1) < 0.999).any()
        assert max(reached) < 0.8 * before
        assert mean_objective(average, images) <= 1.01 * min(reached)
