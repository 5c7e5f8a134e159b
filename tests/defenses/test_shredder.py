from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor
from torch.nn import functional

from fedsplit.defenses.base import Deployed
from fedsplit.defenses.laplace_noise import LaplaceNoise
from fedsplit.defenses.none import Undefended
from fedsplit.defenses.shredder import Shredder
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.models.linear import Linear
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.records.images import Holding, Images
from fedsplit.split import Segments
from tests.federation.builders import auxiliary, federation, holding, plan_of, train

ROWS = 300


def defense(**changes: Any) -> Shredder:
    return Shredder(**({"tensors": 5, "steps": 40, "rate": 0.1, "decay": 0.98} | changes))


@dataclass(frozen=True)
class Trained:
    """A model that learned real digits, the rows of a client, and others of the same kind."""

    segments: Segments
    own: Holding
    unseen: Holding

    def smashed(self, some: Holding) -> Tensor:
        with torch.no_grad():
            return self.segments.client(some.pixels)

    def deployed(self, some: Shredder, seed: int = 0) -> Deployed:
        return some.deploy(self.segments, self.own, Generator().manual_seed(seed))

    def misread(self, smashed: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(self.segments.server(smashed), labels))

    def accuracy(self, smashed: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return float((self.segments.server(smashed).argmax(dim=1) == labels).double().mean())


@pytest.fixture(scope="module")
def digits() -> Trained:
    bundled = load_digits()
    pixels = torch.as_tensor(bundled.images / 16, dtype=torch.float32)[:, None]
    labels = torch.as_tensor(bundled.target)
    every = holding(Images(pixels, labels, torch.arange(len(labels)), tuple("0123456789")))
    own, unseen = (every.at(torch.arange(first, first + ROWS)) for first in (0, ROWS))
    segments = plan_of(model=Linear(width=24), classes=10).segments()
    whole = segments.whole.train()
    optimizer = torch.optim.Adam(whole.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        functional.cross_entropy(whole(own.pixels), own.labels).backward()
        optimizer.step()
    for _, block in whole.blocks():
        block.eval()
    return Trained(segments, own, unseen)


def collection(trained: Trained, some: Shredder) -> Tensor:
    """What is added, found by asking often enough that no tensor is missed."""
    smashed = trained.smashed(trained.own).double()
    added = trained.deployed(some).release(smashed, Generator().manual_seed(3)) - smashed
    # Each of them is rounded to the precision of what it was added to.
    return added.mul(1e6).round().unique(dim=0).div(1e6)


def power(noise: Tensor) -> float:
    return float(noise.square().mean())


def test_every_answer_has_one_tensor_of_the_collection_drawn_anew(digits: Trained) -> None:
    found = collection(digits, defense())
    assert len(found) == 5
    deployed, smashed = digits.deployed(defense()), digits.smashed(digits.unseen).double()
    first, again, other = (deployed.release(smashed, Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    same = (first == other).flatten(1).all(dim=1).double().mean().item()
    assert same == pytest.approx(1 / 5, abs=0.08)
    distances = torch.cdist((other - smashed).flatten(1), found.flatten(1))
    assert distances.min(dim=1).values.max() < 1e-4
    chosen = distances.argmin(dim=1).bincount(minlength=5)
    assert (chosen > 0.1 * ROWS).all(), "not every tensor is drawn alike"


def test_the_mean_of_many_answers_is_off_by_the_mean_of_the_collection(digits: Trained) -> None:
    smashed = digits.smashed(digits.unseen)[:1].double()
    answers = digits.deployed(defense()).release(smashed.expand(4000, -1, -1, -1), Generator().manual_seed(0))
    left, expected = answers.mean(dim=0) - smashed[0], collection(digits, defense()).mean(dim=0)
    assert power(answers[0] - smashed[0]) > 4 * power(left), "nothing averages away"
    assert power(left - expected) < 0.01 * power(expected)


def test_a_linear_reader_of_wide_smashed_data_leaves_few_tensors_out(digits: Trained) -> None:
    """The same power from as many directions as there are values is not left out."""
    deployed = digits.deployed(defense(scale=2.0, steps=5))
    left: list[float] = []
    for independent in (False, True):
        answers: list[Tensor] = []
        for seed, some in enumerate((digits.own, digits.unseen)):
            smashed, rng = digits.smashed(some).double(), Generator().manual_seed(seed)
            found = deployed.release(smashed, rng)
            noise = LaplaceNoise(scale=(power(found - smashed) / 2) ** 0.5)
            answers.append((noise.release(smashed, rng) if independent else found).flatten(1))
        known, asked = (torch.cat([some, torch.ones(len(some), 1).double()], dim=1) for some in answers)
        reader = torch.linalg.lstsq(known, digits.own.pixels.flatten(1).double()).solution
        left.append(power(asked @ reader - digits.unseen.pixels.flatten(1)))
    assert left[0] < 0.3 * left[1]


def test_learned_noise_costs_less_accuracy_than_laplace_noise_of_its_power(digits: Trained) -> None:
    deployed = digits.deployed(defense(scale=2.0, steps=80))
    for some in (digits.own, digits.unseen):
        smashed = digits.smashed(some)
        found = deployed.release(smashed, Generator().manual_seed(0))
        same = LaplaceNoise(scale=(power(found - smashed) / 2) ** 0.5).release(smashed, Generator().manual_seed(0))
        assert power(same - smashed) == pytest.approx(power(found - smashed), rel=0.05)
        assert digits.accuracy(found, some.labels) > digits.accuracy(same, some.labels) + 0.15


def test_it_learns_to_be_larger_and_yet_to_be_read(digits: Trained) -> None:
    smashed, labels = digits.smashed(digits.own), digits.own.labels

    def learned(**changes: Any) -> tuple[float, float]:
        found = digits.deployed(defense(**changes)).release(smashed, Generator().manual_seed(0))
        return power(found - smashed), digits.misread(found, labels)

    (began, unread), (bare, _), (large, read) = learned(rate=1e-12), learned(weight=0.0), learned(weight=2.0)
    assert large > 1.3 * began
    assert large > 1.3 * bare, "the magnitude has no part in the loss"
    assert read < 0.7 * unread


def test_a_weight_that_decays_leaves_less_noise(digits: Trained) -> None:
    slow, fast = (power(collection(digits, defense(weight=4.0, decay=decay))) for decay in (1.0, 0.5))
    assert slow > 1.2 * fast


def test_noise_is_in_units_of_the_smashed_data(digits: Trained) -> None:
    deviation = float(digits.smashed(digits.own).std(correction=0))
    start = collection(digits, defense(scale=1.5, rate=1e-12))
    assert power(start) == pytest.approx(2 * (1.5 * deviation) ** 2, rel=0.15)


def test_weights_stay_and_nothing_else_is_drawn_from(digits: Trained) -> None:
    before, state = fingerprint(digits.segments.whole), torch.random.get_rng_state()
    deployed = digits.deployed(defense(steps=5))
    assert fingerprint(digits.segments.whole) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    one = deployed.release(digits.smashed(digits.own), Generator().manual_seed(0))
    other = digits.deployed(defense(steps=5), seed=1).release(digits.smashed(digits.own), Generator().manual_seed(0))
    assert not torch.equal(one, other)
    confidences = torch.full((2, 10), 0.1)
    assert torch.equal(deployed.answer(digits.own.pixels[:2], confidences), confidences)


def test_training_steps_are_those_without_it_and_deployed_answers_are_noisy(tmp_path: Path) -> None:
    data, leaks = federation(), []
    for number, one in enumerate((Undefended(), defense(steps=3))):
        plan = plan_of(defense=one)
        trained = train(tmp_path / str(number), plan, data, recording=Recording(training=(2,), inference=(2,)))
        kinds = ("training", "inference")
        leaks.append([expose(plan, trained, data, auxiliary(), Observation(kind, 2, True)).leak for kind in kinds])
    (training, inference), (shredded_training, shredded) = leaks
    assert torch.equal(training.smashed, shredded_training.smashed)
    assert not (inference.smashed == shredded.smashed).flatten(1).all(dim=1).any()
    assert not torch.equal(inference.auxiliary_pairs.smashed, shredded.auxiliary_pairs.smashed)
