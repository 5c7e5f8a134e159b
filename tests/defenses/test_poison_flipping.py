from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.defenses.none import Undefended
from fedsplit.defenses.poison_flipping import PoisonFlipping, misleading, steepness
from fedsplit.federation.deployment import answering
from fedsplit.federation.optimizer import Adam
from fedsplit.layers.flip_choice import train_flip_choice
from fedsplit.layers.lesson import Lesson, prepare_lesson
from fedsplit.numerics.poisoning import swapped
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.seeding import Seeds
from tests.defenses.poisoned import ROWS, Question, question
from tests.federation.builders import federation, plan_of, train


@pytest.fixture(scope="module")
def asked() -> Question:
    return question()


def defense(**changes: Any) -> PoisonFlipping:
    return PoisonFlipping(**{"share": 0.2, "steps": 6, "passes": (0, 2), "rate": 0.3, **changes})


FORMS = [defense(share=0.5), defense(share=0.5, generator=True)]


def prepared(some: PoisonFlipping, asked: Question) -> Lesson:
    """What the client learned from its own rows when it was deployed."""
    with torch.no_grad():
        clean = asked.segments.whole(asked.own.pixels).softmax(dim=1)
    seeds = Seeds(int(torch.randint(2**62, (), generator=Generator().manual_seed(0))))
    return prepare_lesson(clean, asked.own.pixels, some.passes, some.rows, seeds, logarithms=True)


def falsified(found: Tensor, clean: Tensor) -> Tensor:
    """Which answers are falsified."""
    return (found != clean).any(dim=1)


@pytest.mark.parametrize("generator", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_a_share_of_the_clients_own_rows_is_falsified_and_the_others_are_not_touched(
    share: float, generator: bool, asked: Question
) -> None:
    some = defense(share=share, generator=generator)
    lesson = prepared(some, asked)
    found = asked.deployed(some).answer(lesson.images, lesson.seen)
    touched = falsified(found, lesson.seen)
    assert int(touched.sum()) == pytest.approx(share * ROWS / 2, abs=1)
    assert torch.equal(found[~touched], lesson.seen[~touched])
    wrong = (found.argmax(dim=1) != lesson.seen.argmax(dim=1))[touched]
    assert wrong.float().mean() > 0.7, "where a swap hardly mattered, the budget can take it back"


@pytest.mark.parametrize("some", FORMS)
def test_answers_are_on_the_simplex_and_depend_on_their_own_image(some: PoisonFlipping, asked: Question) -> None:
    deployed = asked.deployed(some)
    found = deployed.answer(asked.images, asked.confidences)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(found), dtype=found.dtype))
    assert found.min() >= 0
    assert 3 < int(falsified(found, asked.confidences).sum()) < 27
    assert torch.equal(found, deployed.answer(asked.images, asked.confidences))
    parts = [slice(0, 1), slice(1, 18), slice(18, 30)]
    split = torch.cat([deployed.answer(asked.images[part], asked.confidences[part]) for part in parts])
    different = (found - split).abs()
    assert different.median() < 1e-12 and different.max() < 0.01
    assert torch.equal(deployed.release(asked.smashed, Generator()), asked.smashed)


@settings(max_examples=6, deadline=None)
@given(budget=st.floats(0.01, 1.5), norm=st.sampled_from(["sum", "largest"]), generator=st.booleans())
def test_within_the_budget_of_an_answer_in_which_two_entries_are_exchanged(
    budget: float, norm: str, generator: bool
) -> None:
    asked = question()
    some = defense(share=1.0, budget=budget, norm=norm, generator=generator, steps=3)
    found = asked.deployed(some).answer(asked.images, asked.confidences)
    distances: list[Tensor] = []
    for other in range(3):
        change = (found - swapped(asked.confidences, torch.full((len(found),), other))).abs()
        distance = change.sum(dim=1) if norm == "sum" else change.amax(dim=1)
        distances.append(distance.masked_fill(asked.confidences.argmax(dim=1) == other, torch.inf))
    touched = falsified(found, asked.confidences)
    assert int(touched.sum()) > 15
    assert bool((torch.stack(distances).amin(dim=0)[touched] <= budget).all())


def test_the_wrong_class_is_the_one_that_leads_furthest_away(asked: Question) -> None:
    lesson = prepare_lesson(asked.confidences, asked.images, (2,), 15, Seeds(0), logarithms=True)
    directions = lesson.directions(lesson.seen)
    found = misleading(lesson, directions, lesson.seen, lesson.images)
    for row, named in enumerate(found.tolist()):
        own = int(lesson.seen[row].argmax())
        tried = {
            other: swapped(lesson.seen[row : row + 1], torch.tensor([other])) for other in range(3) if other != own
        }
        effects = {
            other: float(lesson.effects(directions, one, lesson.images[row : row + 1]).detach())
            for other, one in tried.items()
        }
        assert named == min(effects, key=lambda other: effects[other])


def test_the_network_chooses_as_the_search_does(asked: Question) -> None:
    lesson = prepare_lesson(asked.confidences, asked.images, (2,), 15, Seeds(0), logarithms=True)
    directions = lesson.directions(lesson.seen)
    steep = steepness(lesson, directions, lesson.seen, lesson.images)
    named = misleading(lesson, directions, lesson.seen, lesson.images)
    choice = train_flip_choice(lesson.seen, steep, named, 200, Seeds(0))
    assert (choice.named(lesson.seen) == named).float().mean() > 0.8
    assert named.unique().numel() == 3, "no constant would do"
    chosen = choice.gains(lesson.seen) >= choice.gains(lesson.seen).quantile(0.6)
    assert steep[chosen].mean() > 1.2 * steep[~chosen].mean()
    assert bool((choice.named(asked.confidences) != asked.confidences.argmax(dim=1)).all())


def test_in_one_pass_most_of_the_clients_own_rows_name_what_the_search_finds(asked: Question) -> None:
    found: list[Tensor] = []
    for generator in (False, True):
        some = defense(share=1.0, budget=1e-6, steps=30, passes=(2,), generator=generator)
        lesson = prepared(some, asked)
        found.append(asked.deployed(some).answer(lesson.images, lesson.seen).argmax(dim=1))
    assert (found[0] == found[1]).float().mean() > 0.8


def test_the_generator_sees_no_image_and_the_search_does(asked: Question) -> None:
    for some, same in zip(FORMS, (False, True), strict=True):
        answer = asked.deployed(some).answer
        one, other = (answer(images, asked.confidences) for images in (asked.images, asked.images.flip(0)))
        assert torch.equal(one, other) is same


@pytest.mark.parametrize("generator", [False, True])
def test_what_is_changed_after_the_swap_leads_further_away(generator: bool, asked: Question) -> None:
    # So many steps that what a search reaches no longer hangs on a processor's rounding.
    some = defense(share=1.0, steps=40, passes=(2,), generator=generator)
    lesson = prepared(some, asked)
    directions = lesson.directions(lesson.seen)

    def effect(budget: float) -> float:
        found = asked.deployed(some.model_copy(update={"budget": budget})).answer(lesson.images, lesson.seen)
        return float(lesson.effect(directions, found, lesson.images).detach())

    exchanged, little, much = (effect(budget) for budget in (1e-6, 0.1, 0.5))
    assert much < little < exchanged


def test_accuracy_falls_with_the_share(tmp_path: Path) -> None:
    data, found = federation(), []
    for number, one in enumerate((Undefended(), defense(share=0.4), defense(share=1.0))):
        plan = plan_of(defense=one, optimizer=Adam(learning_rate=0.03))
        trained = train(tmp_path / str(number), plan, data, SplitFedV1(rounds=8, batch_size=6))
        found.append(answering(plan, trained, data).accuracy)
    assert found[0] > found[1] > found[2]
    assert found[0] - found[1] == pytest.approx(0.4 * found[0], abs=0.2)


@pytest.mark.parametrize("generator", [False, True])
def test_no_answer_that_is_asked_may_be_chosen(generator: bool, asked: Question) -> None:
    answer = asked.deployed(defense(share=0.001, generator=generator)).answer
    each = [answer(asked.images[row : row + 1], asked.confidences[row : row + 1]) for row in range(30)]
    same = [torch.equal(one[0], asked.confidences[row]) for row, one in enumerate(each)]
    assert sum(same) > 20
