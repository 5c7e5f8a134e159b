"""What is said of all attacks on a leak at once: of which channel, of which targets, and where nothing is."""

from pathlib import Path

import pytest
import torch

from fedsplit.attacks.averaging import Averaging
from fedsplit.attacks.base import Attack
from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.bounds.base import Channel
from fedsplit.bounds.ideal_inversion_error import IdealInversionError
from fedsplit.defenses.base import Defense
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.laplace_noise import LaplaceNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.none import Undefended
from fedsplit.defenses.quantise import Quantise
from fedsplit.defenses.shredder import Shredder
from fedsplit.errors import ScenarioError
from fedsplit.federation.exposure import Exposure, Observation, expose, victims
from fedsplit.federation.ledger import Recording
from fedsplit.limits import limits
from fedsplit.models.lenet import LeNet
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.leak import LeakKind
from fedsplit.records.outcome import Limit
from fedsplit.scenario import Duel
from fedsplit.simulate import simulate
from fedsplit.threats.curious_server import CuriousServer
from fedsplit.threats.end_to_end import EndToEnd
from tests import tiny
from tests.federation.builders import auxiliary, federation, images, plan_of, train

NAME = "ideal_inversion_error"
FEW = LowRank(rank=3, activation="none")


def found(
    cell: Path,
    defense: Defense,
    *,
    kind: LeakKind = "inference",
    attack: Attack | None = None,
    protocol: SplitFedV1 | Parallel | None = None,
) -> tuple[Limit, tuple[Exposure, ...], torch.Tensor]:
    """The limit, what was exposed, and the targets behind it in that order. The client is a convolution alone."""
    plan, data = plan_of(model=LeNet(channels=2), cut="conv1", defense=defense), federation((20, 8), watched=12)
    schedule = protocol or SplitFedV1(rounds=1, batch_size=6)
    trained = train(cell, plan, data, schedule, Recording(training=(1,), inference=(1,)))  # pyright: ignore
    exposed = tuple(
        expose(plan, trained, data, auxiliary(), Observation(kind, 1, True, client))
        for client in victims(plan, trained, data, kind, 1)
    )
    # The builders number rows from 100 times the client on.
    rows = torch.cat([one.rows for one in exposed]).tolist()
    targets = torch.stack([images(20 if row < 100 else 8, seed=row // 100).pixels[row % 100] for row in rows])
    duel = Duel("threat", EndToEnd() if kind == "hidden" else CuriousServer(), "attack", attack or _LINEAR[kind], 1)
    return limits((IdealInversionError(),), duel, defense, exposed, targets)[NAME], exposed, targets


_LINEAR: dict[LeakKind, Attack] = {
    "inference": LinearInverse(),
    "training": LinearInverse(leak="training"),
    "hidden": LinearInverse(),
}


def alone(exposed: Exposure, targets: torch.Tensor, noise: float) -> float:
    assert exposed.leak.client_weights is not None
    value = IdealInversionError().limit(Channel(exposed.leak.client_weights.broadcast, noise), targets).value
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("members", "variance"),
    [
        ([], 0.0),
        ([GaussianNoise(std=0.5)], 0.25),
        ([LaplaceNoise(scale=0.5)], 0.5),
        ([GaussianNoise(std=0.5), LaplaceNoise(scale=1.0)], 2.25),
        ([GaussianNoise(std=0.5, active="training")], 0.0),
    ],
    ids=["none", "gaussian", "laplace", "both", "in training"],
)
def test_noise_counts_with_its_variance_where_it_acts(members: list[Defense], variance: float, tmp_path: Path) -> None:
    said, exposed, targets = found(tmp_path, Composition(members=(FEW, *members)))
    assert said.value == pytest.approx(alone(exposed[0], targets, variance))
    assert 0 < alone(exposed[0], targets, 0.0) < alone(exposed[0], targets, 0.25)


def test_the_variances_are_those_of_the_noises() -> None:
    rng = torch.Generator().manual_seed(0)
    for noise in (GaussianNoise(std=0.7), LaplaceNoise(scale=0.7)):
        drawn = noise.release(torch.zeros(200_000, 1, dtype=torch.float64), rng)
        assert noise.noise_variance == pytest.approx(float(drawn.var()), rel=0.02)


def test_the_mean_of_answers_has_the_noise_of_a_mean(tmp_path: Path) -> None:
    defense = Composition(members=(FEW, GaussianNoise(std=1.0)))
    said, exposed, targets = found(tmp_path, defense, attack=Averaging(attack=LinearInverse(), answers=4))
    assert said.value == pytest.approx(alone(exposed[0], targets, 0.25))


def test_of_clients_apart_it_is_the_mean_over_targets(tmp_path: Path) -> None:
    said, exposed, targets = found(tmp_path, FEW, protocol=Parallel(sync="never", rounds=1, batch_size=6))
    assert len(exposed) == 2
    first, second = len(exposed[0].rows), len(exposed[1].rows)
    assert first != second
    values = [alone(exposed[0], targets[:first], 0.0), alone(exposed[1], targets[first:], 0.0)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)
    assert said.value == pytest.approx((first * values[0] + second * values[1]) / len(targets))


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (LowRank(rank=3), "the client segment is not affine"),
        (Composition(members=(FEW, Quantise(bits=8))), "noise of a known variance"),
        (Composition(members=(FEW, GaussianNoise(std=0.1), Quantise(bits=8))), "noise of a known variance"),
        (Composition(members=(FEW, GaussianNoise(std=0.1), Shredder(steps=2))), "noise of a known variance"),
        (GaussianNoise(std=0.5, relative=True), "noise of a known variance"),
        (LaplaceNoise(scale=0.5, relative=True), "noise of a known variance"),
        (GaussianNoise(std=0.5, at=("conv1",)), "noise of a known variance"),
    ],
    ids=[
        "tanh",
        "quantised",
        "noisy and quantised",
        "noisy and shredded",
        "relative",
        "relative laplace",
        "behind a block",
    ],
)
def test_where_something_else_is_done_there_is_none(defense: Defense, words: str, tmp_path: Path) -> None:
    said, _, _ = found(tmp_path, defense)
    assert said.value is None
    assert words in said.reason


@pytest.mark.parametrize("kind", ["training", "hidden"])
def test_it_is_not_about_training_steps_or_what_is_seen_behind_the_cut(kind: LeakKind, tmp_path: Path) -> None:
    said, _, _ = found(tmp_path, Undefended(), kind=kind)
    assert said.value is None
    assert f"not about the {kind} leak" in said.reason


def test_a_run_keeps_it_beside_the_scores_and_no_affine_attack_is_below(tmp_path: Path) -> None:
    scenario = tiny.scenario(
        "model={kind: lenet, channels: 2}",
        "cut=conv1",
        "protocol.rounds=1",
        "defenses={few: {kind: low_rank, rank: 8, activation: none}}",
        "metrics=[{kind: psnr}, {kind: mse}]",
        "targets.count=100",
        "bounds=[{kind: ideal_inversion_error}]",
    )
    outcomes = {outcome.defense: outcome for outcome in simulate(scenario, tmp_path, lambda _: None).outcomes}
    error, value = outcomes["few"].scores["mse"].mean, outcomes["few"].limits[NAME].value
    assert error is not None and value is not None and 0.5 * error < value < error
    assert outcomes["none"].limits[NAME].value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["bounds=[{kind: ideal_inversion_error}]"], "is about mse, which is not measured; add {kind: mse}"),
        (
            [
                "metrics=[{kind: psnr}, {kind: mse}]",
                "bounds=[{kind: ideal_inversion_error}, {kind: ideal_inversion_error}]",
            ],
            "is named twice",
        ),
    ],
)
def test_a_bound_that_has_no_column_is_refused(assignments: list[str], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        tiny.scenario(*assignments)
