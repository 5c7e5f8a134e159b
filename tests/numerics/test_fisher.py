import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from fedsplit.numerics.fisher import fisher_diagonal
from tests.federation.builders import images, plan_of

SEEDS = st.integers(0, 2**31)


@given(seed=SEEDS, rows=st.integers(1, 20), features=st.integers(1, 6))
def test_of_a_logistic_regression_it_is_the_closed_form(seed: int, rows: int, features: int) -> None:
    rng = Generator().manual_seed(seed)
    inputs = torch.randn((rows, features), generator=rng, dtype=torch.float64)
    labels = torch.randint(2, (rows,), generator=rng)
    weight = torch.randn(features, generator=rng, dtype=torch.float64).requires_grad_()

    def loss(sample: Tensor, label: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(sample @ weight, label.double())

    found = fisher_diagonal(loss, {"weight": weight}, inputs, labels)["weight"]
    chance = torch.sigmoid(inputs @ weight.detach())
    expected = ((chance - labels)[:, None] * inputs).square().mean(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_over_labels_drawn_from_the_model_it_is_the_fisher_information() -> None:
    """Of a logistic regression: the mean of p (1 - p) x^2, here by both labels in their proportion."""
    inputs = torch.tensor([[0.5, -2.0]], dtype=torch.float64)
    weight = torch.tensor([1.0, 0.25], dtype=torch.float64, requires_grad=True)
    chance = torch.sigmoid(inputs[0] @ weight.detach())

    def loss(sample: Tensor, label: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(sample @ weight, label)

    no, yes = (
        fisher_diagonal(loss, {"w": weight}, inputs, torch.tensor([label], dtype=torch.float64))["w"]
        for label in (0.0, 1.0)
    )
    expected = chance * (1 - chance) * inputs[0].square()
    torch.testing.assert_close((1 - chance) * no + chance * yes, expected, rtol=1e-12, atol=0)


def test_of_a_network_it_is_the_mean_square_of_per_sample_gradients_taken_at_once() -> None:
    whole, shown = plan_of(precision="float64").segments().whole, images(9, seed=1)
    pixels = shown.pixels.double()
    parameters = dict(whole.named_parameters())

    def alone(own: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(whole, own, (image[None],)), label[None])

    each = vmap(grad(alone), in_dims=(None, 0, 0))(parameters, pixels, shown.labels)
    found = fisher_diagonal(lambda x, y: functional.cross_entropy(whole(x), y), parameters, pixels, shown.labels)
    torch.testing.assert_close(found, {name: one.square().mean(dim=0) for name, one in each.items()})


def test_what_a_loss_does_not_hang_on_gets_zero_and_single_precision_does_not_underflow() -> None:
    used, unused = torch.tensor([1e-30], requires_grad=True), torch.ones(2, requires_grad=True)
    inputs = torch.full((3, 1), 1e-25)
    found = fisher_diagonal(lambda x, y: (used * x * y).sum(), {"a": used, "b": unused}, inputs, torch.ones(3))
    assert found["b"].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found["a"], torch.tensor([1e-50], dtype=torch.float64), rtol=1e-5, atol=0)
