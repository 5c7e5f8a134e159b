from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.numerics.dependence import class_kernel, coco, gaussian_kernel, hsic
from tests.numerics.published_dependence import centring, published_coco, published_hsic, published_kernel

Measure = Callable[[Tensor, Tensor], Tensor]

both = pytest.mark.parametrize("measure", [hsic, coco], ids=["hsic", "coco"])


def points(count: int, size: int, seed: int) -> Tensor:
    return torch.randn(count, size, generator=Generator().manual_seed(seed), dtype=torch.float64)


def centred_linear(rows: Tensor) -> Tensor:
    keep = torch.from_numpy(centring(len(rows)))
    return keep @ rows @ rows.T @ keep


@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.3, 1.0, 5.0]), st.integers(0, 100))
def test_of_gaussian_kernels_they_are_what_was_published(
    count: int, left: int, right: int, width: float, seed: int
) -> None:
    one, other = points(count, left, seed), points(count, right, seed + 1)
    ours = [gaussian_kernel(each, width) for each in (one, other)]
    published = [published_kernel(each.numpy(), width) for each in (one, other)]
    assert float(hsic(*ours)) == pytest.approx(published_hsic(*published), rel=1e-7)
    assert float(coco(*ours)) == pytest.approx(published_coco(*published), rel=1e-7)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 3), st.integers(0, 100))
def test_of_labels_they_are_what_was_published_whatever_classes_the_batch_lacks(
    labels: list[int], lacking: int, seed: int
) -> None:
    rows = points(len(labels), 3, seed)
    one_hot = np.eye(5 + lacking)[labels]
    ours = gaussian_kernel(rows, 1.0), class_kernel(torch.tensor(labels), torch.float64)
    published = published_kernel(rows.numpy(), 1.0), one_hot @ one_hot.T
    assert float(hsic(*ours)) == pytest.approx(published_hsic(*published), rel=1e-7, abs=1e-12)
    assert float(coco(*ours)) == pytest.approx(published_coco(*published), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("classes", [5, 9])
@pytest.mark.parametrize("kernel", [lambda d: np.exp(-d / 3), lambda d: (d + 1) ** -0.5], ids=["gaussian", "imq"])
def test_other_kernels_of_labels_are_multiples_of_the_linear_one(kernel, classes: int) -> None:
    labels = torch.tensor([0, 4, 1, 1, 0, 2, 4])
    one_hot = np.eye(classes)[labels]
    distances = ((one_hot[:, None] - one_hot) ** 2).sum(axis=2)
    other = centring(7) @ kernel(distances) @ centring(7)
    ratio = kernel(0.0) - kernel(2.0)
    np.testing.assert_allclose(other, ratio * class_kernel(labels, torch.float64).numpy(), atol=1e-15)


def test_of_scalars_and_linear_kernels_they_are_the_correlation() -> None:
    one = 1000 * points(40, 1, 0)
    other = 300 * points(40, 1, 1) + 0.5 * one
    correlation = float(np.corrcoef(one.flatten(), other.flatten())[0, 1])
    kernels = centred_linear(one), centred_linear(other)
    assert float(hsic(*kernels)) == pytest.approx(correlation**2, rel=1e-6)
    deviations = float(one.std(correction=0) * other.std(correction=0))
    assert float(coco(*kernels)) == pytest.approx(deviations * abs(correlation) ** 0.5, rel=1e-9)


def test_hsic_of_linear_kernels_sums_the_squared_canonical_correlations() -> None:
    one = 30 * points(30, 3, 2)
    other = one @ points(3, 4, 3) + 50 * points(30, 4, 4)
    bases = [np.linalg.qr(centring(30) @ each.numpy())[0] for each in (one, other)]
    expected = np.sum(np.linalg.svd(bases[0].T @ bases[1])[1] ** 2)
    assert float(hsic(centred_linear(one), centred_linear(other))) == pytest.approx(expected, rel=1e-6)


def test_hsic_of_a_thing_and_itself_counts_its_directions() -> None:
    one = centred_linear(1000 * points(30, 3, 5))
    assert float(hsic(one, one)) == pytest.approx(3, rel=1e-6)
    classes = class_kernel(torch.arange(30) % 5, torch.float64)
    assert float(hsic(classes, classes)) == pytest.approx(4, rel=1e-3)


@both
def test_with_more_rows_independent_points_are_seen_to_be(measure: Measure) -> None:
    found: list[float] = []
    for count in (10, 100, 1000):
        one, other = (centred_linear(points(count, 2, seed)) for seed in (6, 7))
        found.append(float(measure(one, other) / (measure(one, one) * measure(other, other)).sqrt()))
    assert found[0] > found[1] > found[2]
    assert found[2] < {hsic: 0.01, coco: 0.4}[measure]


def test_in_a_small_batch_noise_seems_to_depend_on_anything() -> None:
    one, other = gaussian_kernel(points(16, 200, 8), 5.0), gaussian_kernel(points(16, 200, 9), 5.0)
    assert hsic(one, other) > 0.75 * 15


@both
@given(count=st.integers(2, 8), seed=st.integers(0, 100))
def test_neither_argument_comes_first_and_nothing_depends_on_a_thing_more_than_itself(
    measure: Measure, count: int, seed: int
) -> None:
    one, other = gaussian_kernel(points(count, 2, seed), 1.0), gaussian_kernel(points(count, 3, seed + 1), 0.5)
    found = float(measure(one, other))
    assert found == pytest.approx(float(measure(other, one)), rel=1e-9)
    assert 0 < found <= float((measure(one, one) * measure(other, other)).sqrt()) * (1 + 1e-9)
    assert hsic(one, other) <= count - 1


@both
@given(order=st.permutations(range(7)), seed=st.integers(0, 100))
def test_the_order_of_samples_does_not_matter(measure: Measure, order, seed: int) -> None:
    one, other = points(7, 2, seed), points(7, 3, seed + 1)
    labels = torch.arange(7) % 3
    plain = gaussian_kernel(one, 1.0), gaussian_kernel(other, 1.0), class_kernel(labels, torch.float64)
    mixed = gaussian_kernel(one[order], 1.0), gaussian_kernel(other[order], 1.0), class_kernel(labels[order], one.dtype)
    for left, right in ((0, 1), (0, 2)):
        expected = float(measure(plain[left], plain[right]))
        assert float(measure(mixed[left], mixed[right])) == pytest.approx(expected, rel=1e-9)


@both
def test_what_is_put_beside_the_wrong_samples_depends_less(measure: Measure) -> None:
    one = points(40, 2, 18)
    right, wrong = (centred_linear(other) for other in (one, one.flip(0)))
    assert measure(centred_linear(one), wrong) < 0.8 * measure(centred_linear(one), right)


def test_a_kernel_is_as_wide_as_it_says_for_points_of_any_size() -> None:
    one = points(6, 3, 10)
    torch.testing.assert_close(gaussian_kernel(one, 2.0), gaussian_kernel(one.repeat(1, 5), 2.0))
    torch.testing.assert_close(gaussian_kernel(one, 2.0), gaussian_kernel(3 * one, 6.0))
    torch.testing.assert_close(gaussian_kernel(one, 2.0), gaussian_kernel(one[:, :, None, None], 2.0))


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (300.0, 1.0), (0.0, 0.001)])
def test_single_precision_is_enough_far_from_zero_and_close_together(offset: float, scale: float) -> None:
    one, other = offset + scale * points(64, 50, 11).float(), points(64, 50, 12).float()
    for measure in (hsic, coco):
        single, double = (
            measure(gaussian_kernel(a, 5.0), gaussian_kernel(b, 5.0))
            for a, b in ((one, other), (one.double(), other.double()))
        )
        assert single.dtype == torch.float32
        assert float(single) == pytest.approx(float(double), rel=1e-3)


@both
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_what_is_constant_nothing_is_seen_and_gradients_are_finite(
    measure: Measure, count: int, dtype: torch.dtype
) -> None:
    constant = torch.full((count, 3), 7.3, dtype=dtype, requires_grad=True)
    other = points(count, 4, 13).to(dtype).requires_grad_()
    for kernel in (gaussian_kernel(other, 1.0), class_kernel(torch.arange(count), dtype)):
        found = measure(gaussian_kernel(constant, 1.0), kernel)
        found.backward(retain_graph=True)
        assert float(found.detach()) == pytest.approx(0, abs=1e-5)
        assert constant.grad is not None
        assert constant.grad.isfinite().all()
    assert other.grad is not None
    assert other.grad.isfinite().all()


@both
def test_points_that_fall_together_give_finite_gradients(measure: Measure) -> None:
    twins = points(3, 4, 14).repeat(2, 1).float().requires_grad_()
    measure(gaussian_kernel(twins, 5.0), gaussian_kernel(points(6, 2, 15).float(), 5.0)).backward()
    assert twins.grad is not None
    assert twins.grad.isfinite().all()
    assert twins.grad.abs().sum() > 0


def test_points_whose_distance_is_rounding_do_not_overflow() -> None:
    far = 1e7 * points(20, 50, 19).float()
    assert gaussian_kernel(torch.cat([far, far * (1 + 2e-7)]), 5.0).abs().max() <= 2


@both
@pytest.mark.parametrize("count", [2, 5])
def test_its_gradient_is_that_of_its_value(measure: Measure, count: int) -> None:
    one, other = (points(count, 3, seed).requires_grad_() for seed in (16, 17))
    labels = class_kernel(torch.arange(count) % 2, torch.float64)

    def value(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        kernel = gaussian_kernel(left, 1.0)
        return measure(kernel, gaussian_kernel(right, 1.0)), measure(kernel, labels)

    assert torch.autograd.gradcheck(value, (one, other))
