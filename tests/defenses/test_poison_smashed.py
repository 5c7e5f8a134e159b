from pathlib import Path

import pytest
import torch
from torch import Generator

from fedsplit.defenses.none import Undefended
from fedsplit.defenses.poison_smashed import PoisonSmashed
from fedsplit.federation.deployment import answering
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.layers.lesson import prepare_lesson
from fedsplit.seeding import Seeds
from tests.defenses.poisoned import Question, question
from tests.federation.builders import auxiliary, federation, plan_of, train


@pytest.fixture(scope="module")
def asked() -> Question:
    return question()


def defense(**changes: object) -> PoisonSmashed:
    return PoisonSmashed.model_validate({"steps": 6, "passes": (0, 2), "rate": 0.3, **changes})


@pytest.mark.parametrize("budget", [0.1, 1.5])
def test_it_keeps_the_budget_and_the_servers_label_and_changes_every_sample(budget: float, asked: Question) -> None:
    deployed = asked.deployed(defense(budget=budget))
    found = deployed.release(asked.smashed, Generator())
    moved = (found - asked.smashed).flatten(1).norm(dim=1)
    assert (moved <= budget * asked.smashed.flatten(1).norm(dim=1) * (1 + 1e-12)).all()
    assert (moved > 0).float().mean() > 0.8
    hidden, last = asked.segments.behind
    after = last(hidden(found)).softmax(dim=1)
    assert torch.equal(after.argmax(dim=1), asked.confidences.argmax(dim=1))
    lead, ahead = (one.topk(2, dim=1).values.diff(dim=1).neg()[:, 0] for one in (after, asked.confidences))
    assert (lead >= ahead.clamp(max=0.01) - 1e-12).all()
    assert torch.equal(deployed.answer(asked.images, asked.confidences), asked.confidences)


def test_without_the_label_a_wide_budget_would_flip_some(asked: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PoisonSmashed, "_keeping_label", lambda self, model, smashed, found: found)
    found = asked.deployed(defense(budget=1.5)).release(asked.smashed, Generator())
    hidden, last = asked.segments.behind
    assert not torch.equal(last(hidden(found)).argmax(dim=1), asked.confidences.argmax(dim=1))


def test_it_follows_from_the_smashed_data_alone(asked: Question) -> None:
    deployed = asked.deployed(defense())
    found = deployed.release(asked.smashed, Generator().manual_seed(0))
    assert torch.equal(found, deployed.release(asked.smashed, Generator().manual_seed(1)))
    parts = [asked.smashed[part] for part in (slice(0, 1), slice(1, 18), slice(18, 30))]
    split = torch.cat([deployed.release(part, Generator()) for part in parts])
    different = (found - split).abs()
    assert different.median() < 1e-12 and different.max() < 0.01


def test_gradients_of_an_adversarys_training_turn_towards_the_wanted_ones(asked: Question) -> None:
    some = defense(passes=(3,), steps=20, rate=0.2, budget=0.5)
    with torch.no_grad():
        smashed = asked.segments.client(asked.own.pixels)
    seeds = Seeds(int(torch.randint(2**62, (), generator=Generator().manual_seed(0))))
    lesson = prepare_lesson(smashed, asked.own.pixels, some.passes, some.rows, seeds, logarithms=False)
    found = asked.deployed(some).release(asked.smashed, Generator())
    bare, poisoned = (float(lesson.misalignment(one, asked.images).detach()) for one in (asked.smashed, found))
    assert poisoned < bare - 0.1


def test_training_steps_and_accuracy_are_those_without_it(tmp_path: Path) -> None:
    data, leaks, found = federation(), [], []
    for number, one in enumerate((Undefended(), defense(budget=0.5))):
        plan = plan_of(defense=one)
        trained = train(tmp_path / str(number), plan, data, recording=Recording(training=(2,), inference=(2,)))
        found.append(answering(plan, trained, data).accuracy)
        kinds = ("training", "inference")
        leaks.append([expose(plan, trained, data, auxiliary(), Observation(kind, 2, True)).leak for kind in kinds])
    assert found[0] == found[1]
    (training, inference), (poisoned_training, poisoned) = leaks
    assert torch.equal(training.smashed, poisoned_training.smashed)
    assert torch.equal(training.auxiliary_pairs.smashed, poisoned_training.auxiliary_pairs.smashed)
    assert not torch.equal(inference.smashed, poisoned.smashed)
    assert not torch.equal(inference.auxiliary_pairs.smashed, poisoned.auxiliary_pairs.smashed)


def test_smashed_data_of_zero_stay_zero(asked: Question) -> None:
    zero = torch.zeros_like(asked.smashed[:2])
    assert torch.equal(asked.deployed(defense()).release(zero, Generator()), zero)
