from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from fedsplit.defenses.none import Undefended
from fedsplit.defenses.poison_preserving import PoisonPreserving
from fedsplit.federation.deployment import answering
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.layers.lesson import prepare_lesson
from fedsplit.layers.poison_generator import GeneratorTraining, PoisonGenerator
from fedsplit.numerics.poisoning import unit
from fedsplit.seeding import Seeds
from tests.defenses.poisoned import Question, question
from tests.federation.builders import auxiliary, federation, plan_of, train

FAST: dict[str, Any] = {"steps": 6, "passes": (0, 2), "rate": 0.3}
FORMS = [PoisonPreserving(**FAST), PoisonPreserving(**FAST, generator=True)]


@pytest.fixture(scope="module")
def asked() -> Question:
    return question()


@pytest.mark.parametrize("defense", [*FORMS, PoisonPreserving(**FAST, budget=0.7, norm="largest", margin=0.0)])
def test_every_answer_keeps_label_simplex_and_budget_and_is_changed(defense: PoisonPreserving, asked: Question) -> None:
    deployed = asked.deployed(defense)
    found = deployed.answer(asked.images, asked.confidences)
    assert torch.equal(found.argmax(dim=1), asked.confidences.argmax(dim=1))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(found), dtype=found.dtype))
    assert found.min() >= 0
    change = (found - asked.confidences).abs()
    assert (change.sum(dim=1) if defense.norm == "sum" else change.amax(dim=1)).max() <= defense.budget
    # Who hardly leads has no room on the way that was found.
    assert (change.sum(dim=1) > 1e-3).float().mean() > 0.8
    assert torch.equal(deployed.release(asked.smashed, Generator()), asked.smashed)


@pytest.mark.parametrize("defense", FORMS)
def test_an_answer_depends_on_its_own_image_and_is_always_the_same(defense: PoisonPreserving, asked: Question) -> None:
    deployed, again = asked.deployed(defense), asked.deployed(defense)
    found = deployed.answer(asked.images, asked.confidences)
    assert torch.equal(found, deployed.answer(asked.images, asked.confidences))
    assert torch.equal(found, again.answer(asked.images, asked.confidences))
    parts = [slice(0, 1), slice(1, 18), slice(18, 30)]
    split = torch.cat([deployed.answer(asked.images[part], asked.confidences[part]) for part in parts])
    # Where a constraint begins to bind, the search can blow up what rounding left over; nothing else differs.
    different = (found - split).abs()
    assert different.median() < 1e-12 and different.max() < 0.01
    other = asked.deployed(defense, seed=1).answer(asked.images, asked.confidences)
    assert not torch.equal(found, other)


def test_the_generator_sees_no_image_and_the_search_does(asked: Question) -> None:
    for defense, same in zip(FORMS, (False, True), strict=True):
        answer = asked.deployed(defense).answer
        one, other = (answer(images, asked.confidences) for images in (asked.images, asked.images.flip(0)))
        assert torch.equal(one, other) is same


def misalignments(defense: PoisonPreserving, asked: Question) -> tuple[float, float]:
    """Of the answers to images that were not there when the client was deployed, bare and poisoned, for the networks
    that the client itself trained."""
    with torch.no_grad():
        confidences = asked.segments.whole(asked.own.pixels).softmax(dim=1)
    seeds = Seeds(int(torch.randint(2**62, (), generator=Generator().manual_seed(0))))
    lesson = prepare_lesson(confidences, asked.own.pixels, defense.passes, defense.rows, seeds, logarithms=True)
    found = asked.deployed(defense).answer(asked.images, asked.confidences)
    bare, poisoned = (float(lesson.misalignment(some, asked.images).detach()) for some in (asked.confidences, found))
    return bare, poisoned


@pytest.mark.parametrize("generator", [False, True])
def test_gradients_of_an_adversarys_training_turn_towards_the_wanted_ones(generator: bool, asked: Question) -> None:
    defense = PoisonPreserving(steps=20, passes=(3,), rate=0.2, budget=0.5, generator=generator)
    bare, poisoned = misalignments(defense, asked)
    assert bare > 1, "honest answers teach to rebuild"
    assert poisoned < bare - 0.1
    weak = PoisonPreserving(steps=20, passes=(3,), rate=0.2, budget=0.01, generator=generator)
    assert poisoned < misalignments(weak, asked)[1]


def test_the_generator_trains_its_code_too(asked: Question) -> None:
    lesson = prepare_lesson(asked.confidences, asked.images, (1,), 15, Seeds(0), logarithms=True)

    def misalignment(released: Tensor, rows: Tensor) -> Tensor:
        return lesson.misalignment(released, lesson.images[rows])

    def trained(**changes: float) -> tuple[PoisonGenerator, Tensor]:
        training = GeneratorTraining(0.2, steps=40, **changes)
        found = training.run(lesson.seen, misalignment, unit(0.2, 0.01, "sum"), Seeds(0))
        assert isinstance(found, PoisonGenerator)
        return found, found.code(lesson.seen)[0].square().mean() + (found.code(lesson.seen)[1] - 1).square().mean()

    (free, distance), (dear, near) = trained(divergence=0.0), trained(divergence=1.0)
    assert near < 0.5 * distance
    assert not torch.equal(free(lesson.seen), dear(lesson.seen))
    short = trained(length=10.0)[0]
    assert short(lesson.seen).abs().mean() < 0.5 * free(lesson.seen).abs().mean()


@pytest.mark.parametrize("defense", FORMS)
def test_accuracy_is_exactly_that_without_it(defense: PoisonPreserving, tmp_path: Path) -> None:
    data, found = federation(), []
    for number, one in enumerate((Undefended(), defense)):
        plan = plan_of(defense=one)
        trained = train(tmp_path / str(number), plan, data, recording=Recording(inference=(2,)))
        found.append(answering(plan, trained, data).evaluation)
        leak = expose(plan, trained, data, auxiliary(), Observation("answers", 2, True, 1)).leak
        assert leak.smashed is not None and leak.smashed.shape == (4, 3)
    assert found[0] == found[1]
    assert found[0].accuracy > 0.3


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"budget": 0.0}, {"budget": 2.1}, {"passes": ()}, {"margin": -0.1}, {"active": "inference"}):
        with pytest.raises(ValidationError):
            PoisonPreserving.model_validate(wrong)
