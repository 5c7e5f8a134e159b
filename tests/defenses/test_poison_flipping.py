from pathlib import Path

import pytest
import torch
from torch import Generator

from fedsplit.defenses.none import Undefended
from fedsplit.defenses.poison_flipping import PoisonFlipping, flipped
from fedsplit.federation.deployment import answering
from fedsplit.federation.optimizer import Adam
from fedsplit.layers.lesson import prepare_lesson
from fedsplit.numerics.poisoning import swapped
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.seeding import Seeds
from tests.defenses.poisoned import ROWS, Question, question
from tests.federation.builders import federation, plan_of, train


@pytest.fixture(scope="module")
def asked() -> Question:
    return question()


def defense(**changes: object) -> PoisonFlipping:
    return PoisonFlipping.model_validate({"share": 0.2, "steps": 6, "passes": (0, 2), "rate": 0.3, **changes})


@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_a_share_of_the_clients_own_rows_is_falsified_and_the_others_are_not_touched(
    share: float, asked: Question
) -> None:
    some = defense(share=share)
    with torch.no_grad():
        clean = asked.segments.whole(asked.own.pixels).softmax(dim=1)
    seeds = Seeds(int(torch.randint(2**62, (), generator=Generator().manual_seed(0))))
    lesson = prepare_lesson(clean, asked.own.pixels, some.passes, some.rows, seeds, logarithms=True)
    found = asked.deployed(some).answer(lesson.images, lesson.seen)
    touched = (found != lesson.seen).any(dim=1)
    assert int(touched.sum()) == pytest.approx(share * ROWS / 2, abs=1)
    assert torch.equal(found[~touched], lesson.seen[~touched])
    wrong = (found.argmax(dim=1) != lesson.seen.argmax(dim=1))[touched]
    assert wrong.float().mean() > 0.7, "where a swap hardly mattered, the budget can take it back"


def test_answers_are_on_the_simplex_and_depend_on_their_own_image(asked: Question) -> None:
    deployed = asked.deployed(defense(share=0.5))
    found = deployed.answer(asked.images, asked.confidences)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(found), dtype=found.dtype))
    assert found.min() >= 0
    changed = (found != asked.confidences).any(dim=1)
    assert 3 < int(changed.sum()) < 27
    parts = [slice(0, 1), slice(1, 18), slice(18, 30)]
    split = torch.cat([deployed.answer(asked.images[part], asked.confidences[part]) for part in parts])
    different = (found - split).abs()
    assert different.median() < 1e-12 and different.max() < 0.01
    assert torch.equal(deployed.release(asked.smashed, Generator()), asked.smashed)


def test_the_wrong_class_is_the_one_that_leads_furthest_away(asked: Question) -> None:
    lesson = prepare_lesson(asked.confidences, asked.images, (2,), 15, Seeds(0), logarithms=True)
    directions = lesson.directions(lesson.seen)
    found = flipped(lesson, directions, lesson.seen, lesson.images)
    for row, answer in enumerate(found):
        own = int(lesson.seen[row].argmax())
        tried = {
            other: swapped(lesson.seen[row : row + 1], torch.tensor([other])) for other in range(3) if other != own
        }
        effects = {
            other: float(lesson.effects(directions, one, lesson.images[row : row + 1]).detach())
            for other, one in tried.items()
        }
        assert torch.equal(answer, tried[min(effects, key=lambda other: effects[other])][0])


def test_accuracy_falls_with_the_share(tmp_path: Path) -> None:
    data, found = federation(), []
    for number, one in enumerate((Undefended(), defense(share=0.4), defense(share=1.0))):
        plan = plan_of(defense=one, optimizer=Adam(learning_rate=0.03))
        trained = train(tmp_path / str(number), plan, data, SplitFedV1(rounds=8, batch_size=6))
        found.append(answering(plan, trained, data).accuracy)
    assert found[0] > found[1] > found[2]
    assert found[0] - found[1] == pytest.approx(0.4 * found[0], abs=0.2)


def test_no_answer_that_is_asked_may_be_chosen(asked: Question) -> None:
    answer = asked.deployed(defense(share=0.001)).answer
    each = [answer(asked.images[row : row + 1], asked.confidences[row : row + 1]) for row in range(30)]
    same = [torch.equal(one[0], asked.confidences[row]) for row, one in enumerate(each)]
    assert sum(same) > 20
