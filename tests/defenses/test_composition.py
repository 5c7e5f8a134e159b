from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Generator, Tensor

from fedsplit.defenses.base import AnyDefense, Defense
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.dp_sgd import DpSgd
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.laplace_noise import LaplaceNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.none import Undefended
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.defenses import plugins
from tests.federation.builders import (
    assert_same,
    auxiliary,
    federation,
    holding,
    images,
    joined,
    plan_of,
    started,
    train,
)

defenses: TypeAdapter[Defense] = TypeAdapter(AnyDefense)


def of(*members: Defense) -> Composition:
    return Composition(members=members)


def released(defense: Defense) -> Tensor:
    """What leaves the client in training, of the same images."""
    plan = plan_of(defense=defense, precision="float64")
    client = Client(plan, plan.home(), holding(images(5, seed=1)), {}, Generator().manual_seed(0))
    return client.send(client.holding).smashed


def test_members_release_from_left_to_right() -> None:
    plain = released(Undefended())
    torch.testing.assert_close(released(of(plugins.Shift(by=1.0), plugins.Scale(by=2.0))), 2 * (plain + 1))
    torch.testing.assert_close(released(of(plugins.Scale(by=2.0), plugins.Shift(by=1.0))), 2 * plain + 1)


def test_the_deployed_members_release_and_answer_from_left_to_right(tmp_path: Path) -> None:
    plan, data = plan_of(defense=of(plugins.Shift(by=1.0), plugins.Scale(by=2.0))), federation()
    trained = train(tmp_path, plan, data, recording=Recording(inference=(2,)))
    defended, bare = (
        expose(plan, trained, data, auxiliary(), Observation("inference", 2, known)).leak.auxiliary_pairs
        for known in (True, False)
    )
    assert defended is not None
    assert bare is not None
    torch.testing.assert_close(defended.smashed, 2 * (bare.smashed + 1))
    segments = plan.segments()
    for _, block in segments.whole.blocks():
        block.eval()
    deployed = of(plugins.Poison(), plugins.Scale(by=0.0)).deploy(segments, holding(images(3, seed=0)), Generator())
    confidences = torch.tensor([[0.1, 0.2, 0.7]])
    assert deployed.release(torch.rand(1, 2), Generator()).abs().sum() == 0
    assert torch.equal(deployed.answer(torch.rand(1, 1, 8, 8), confidences), confidences.flip(1))


@pytest.mark.parametrize("phase", ["training", "inference"])
def test_every_member_says_when_it_acts(phase: Any) -> None:
    shift, scale = plugins.Shift(by=1.0, active="training"), plugins.Scale(by=2.0, active="inference")
    defense = of(Undefended(), shift, of(scale))
    assert defense.releasing(phase) == ((shift,) if phase == "training" else (scale,))
    assert defense.releases
    assert not of(Undefended(), plugins.Sphere(radius=1.0)).releases
    assert not of(Undefended(), plugins.Sphere(radius=1.0)).augments


def test_a_setting_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="'both'"):
        defenses.validate_python(
            {"kind": "composition", "active": "training", "members": [{"kind": "gaussian_noise", "std": 1}]}
        )


def test_penalties_are_summed() -> None:
    def moved(*members: Defense) -> dict[str, Tensor]:
        plan = plan_of(defense=of(*members), precision="float64")
        client = Client(plan, plan.home(), holding(images(5, seed=1)), {}, Generator())
        crossing = client.send(client.holding)
        client.receive(CutGradient(torch.zeros_like(crossing.smashed)))
        return {name: value.grad for name, value in client.segment.named_parameters() if value.grad is not None}

    both = moved(plugins.SmallFeatures(weight=0.1), Undefended(), plugins.SmallFeatures(weight=0.3))
    assert_same(both, moved(plugins.SmallFeatures(weight=0.4)))


def test_both_sides_penalties_act_through_a_composition(tmp_path: Path) -> None:
    data = federation()
    defense = of(plugins.SmallFeatures(weight=0.02), plugins.SmallLogits(weight=0.03), plugins.SmallLogits(weight=0.04))
    merged = of(plugins.SmallLogits(weight=0.07), plugins.SmallFeatures(weight=0.02))
    first, second = (
        train(tmp_path / str(number), plan_of(defense=made, precision="float64"), data)
        for number, made in enumerate((defense, merged))
    )
    assert_same(joined(first.standing), joined(second.standing))


def test_a_composition_of_one_is_that_one(tmp_path: Path) -> None:
    data = federation()
    single = [plugins.Sphere(radius=2.0), plugins.RandomScale(), plugins.MadeUp(rows=2, weight=0.5), LowRank(rank=2)]
    for number, member in enumerate([*single, plugins.Frozen(names=("rows",)), plugins.Clip(norm=0.1)]):
        found = train(tmp_path / f"{number} found", plan_of(defense=of(member)), data)
        expected = train(tmp_path / f"{number} expected", plan_of(defense=member), data)
        assert_same(joined(found.standing), joined(expected.standing), 0.0)


def test_builds_compose_and_augmentations_follow_one_another(tmp_path: Path) -> None:
    plan = plan_of(defense=of(plugins.Stem(name="inner"), plugins.Stem(name="outer"), LowRank(rank=2)))
    segments = plan.segments()
    assert segments.client.names == ("outer", "inner", "rows", "rows_factor")
    assert segments.cut_shape == (2,)
    made = of(plugins.MadeUp(rows=2, weight=1.0), plugins.MadeUp(rows=3, weight=1.0))
    trained = train(tmp_path, plan_of(defense=made), federation((6,)), SplitFedV1(rounds=1, batch_size=1000))
    assert trained.standing.bytes[1] == (6 + 2 + 3) * 40 * 4


def test_every_hook_is_called_from_left_to_right(tmp_path: Path) -> None:
    plugins.LOG.clear()
    plan = plan_of(defense=of(plugins.Logged(name="hidden"), plugins.Logged(name="rows")))
    train(tmp_path, plan, federation((6,)), SplitFedV1(rounds=1, batch_size=1000))
    for hook in ("build", "warm_start", "augment", "after_backward", "after_step"):
        names = [line.split()[1] for line in plugins.LOG if line.startswith(f"{hook} ")]
        assert names[:2] == ["hidden", "rows"]
        assert len(names) == 2 or hook == "build"


def test_a_composition_freezes_what_its_members_freeze(tmp_path: Path) -> None:
    defense = of(plugins.Frozen(names=("rows",)), plugins.Frozen(names=("hidden",)))
    plan, _ = started(plan_of(defense=defense), images(3, seed=0))
    assert plan.frozen == ("rows", "hidden")


def test_noise_of_two_members_is_drawn_apart() -> None:
    plain = released(Undefended())
    twice = released(of(GaussianNoise(std=1.0), GaussianNoise(std=1.0))) - plain
    assert not torch.allclose(twice, 2 * (released(GaussianNoise(std=1.0)) - plain))


def test_a_yaml_list_is_a_composition() -> None:
    raw = yaml.safe_load("[{kind: low_rank, rank: 8}, {kind: laplace_noise, scale: 0.1}]")
    found = defenses.validate_python(raw)
    assert found == of(LowRank(rank=8), LaplaceNoise(scale=0.1))
    assert defenses.validate_python(yaml.safe_load(yaml.safe_dump(defenses.dump_python(found, mode="json")))) == found


def test_it_travels_inside_a_plan() -> None:
    plan = plan_of(defense=of(LowRank(rank=8), plugins.Shift(by=1.0)))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_an_empty_composition_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        defenses.validate_python([])


def test_it_claims_privacy_where_a_member_does():
    quiet, proving = GaussianNoise(std=1.0), DpSgd(clip=1.0, noise_multiplier=1.0)
    assert not Composition(members=(quiet, quiet)).claims_privacy
    assert Composition(members=(quiet, proving)).claims_privacy
