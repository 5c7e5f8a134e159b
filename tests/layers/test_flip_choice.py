import pytest
import torch
from torch import Generator, Tensor

from fedsplit.layers.flip_choice import train_flip_choice
from fedsplit.seeding import Seeds


def answers(count: int, classes: int = 4, seed: int = 0) -> Tensor:
    return (2 * torch.randn(count, classes, generator=Generator().manual_seed(seed), dtype=torch.float64)).softmax(
        dim=1
    )


def test_it_learns_a_rule_that_holds_for_other_answers() -> None:
    """Doubt is what there is to gain, by powers of ten, and the least likely class is the one to name."""

    def gains(some: Tensor) -> Tensor:
        return 10 ** (-6 * some.amax(dim=1))

    own, others = answers(100), answers(60, seed=1)
    choice = train_flip_choice(own, gains(own), own.argmin(dim=1), 300, Seeds(0))
    assert (choice.named(others) == others.argmin(dim=1)).double().mean() > 0.75
    ranks = [some.argsort().argsort().double() for some in (choice.gains(others), gains(others))]
    assert float(torch.corrcoef(torch.stack(ranks))[0, 1]) > 0.9
    assert not any(parameter.requires_grad for parameter in choice.parameters())


@pytest.mark.parametrize("classes", [2, 4])
def test_it_never_names_the_class_that_the_answer_names(classes: int) -> None:
    own, others = answers(20, classes), answers(200, classes, seed=1)
    named = (own.argmax(dim=1) + 1) % classes
    choice = train_flip_choice(own, own[:, 0], named, 5, Seeds(0))
    assert bool((choice.named(others) != others.argmax(dim=1)).all())


@pytest.mark.parametrize("rows", [1, 3])
def test_equal_gains_and_a_single_row_are_learned_from_too(rows: int) -> None:
    own = answers(rows)
    choice = train_flip_choice(own, torch.zeros(rows).double(), own.argmin(dim=1), 5, Seeds(0))
    assert choice.gains(own).isfinite().all() and choice.others(own).isfinite().sum() == 3 * rows


def test_it_is_the_same_from_the_same_stream() -> None:
    own = answers(20)
    state = torch.random.get_rng_state()
    one, again, other = (
        train_flip_choice(own, own[:, 0], own.argmin(dim=1), 5, Seeds(seed)).gains(own) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
