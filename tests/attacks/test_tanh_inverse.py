"""A saturating step undone: what it gives back, where it is left alone, and that whatever is wrapped sees one thing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Generator, Tensor, nn

from fedsplit.attacks.base import AnyAttack, Attack
from fedsplit.attacks.likelihood import Likelihood
from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.attacks.sparse_inverse import SparseInverse
from fedsplit.attacks.tanh_inverse import TanhInverse
from fedsplit.defenses.quantise import Quantise
from fedsplit.layers.bottleneck import low_rank_factor
from fedsplit.records.leak import Asset, Leak, LeakKind, Pairs
from fedsplit.seeding import Seeds
from tests import tiny
from tests.attacks.leaks import Case, case, map_client, noisy

attacks: TypeAdapter[Attack] = TypeAdapter(AnyAttack)
KINDS: tuple[LeakKind, ...] = ("hidden", "answers")
UNDONE: dict[str, Any] = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}


def loud(shape: tuple[int, int, int]) -> nn.Module:
    """A random map of the image that tanh squeezes hard."""
    found = nn.Sequential(nn.Flatten(), nn.Linear(144, 60))
    with torch.no_grad():
        found[1].weight.mul_(12)
    return found


class Faint(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return 1e-3 * values


def behind(squeeze: str, *, client: Any = loud, **settings: Any) -> Case:
    return case(lambda shape: nn.Sequential(client(shape), *_step(squeeze)), **settings)


def _step(squeeze: str) -> list[nn.Module]:
    return {"none": [], "tanh": [nn.Tanh()], "sigmoid": [nn.Sigmoid()]}[squeeze]


def error(attack: Attack, about: Case) -> float:
    return about.error(attack.reconstruct(about.leak, Seeds(1)("attack")).images)


@pytest.mark.parametrize("squeeze", UNDONE)
def test_it_is_as_good_as_without_the_squeeze_and_much_better_than_with_it(squeeze: Any) -> None:
    undone = TanhInverse(attack=LinearInverse(), squeeze=squeeze)
    bare = error(LinearInverse(), behind("none", dtype=torch.float64))
    about = behind(squeeze, dtype=torch.float64)
    images = undone.reconstruct(about.leak, Seeds(1)("attack")).images
    straight = LinearInverse().reconstruct(behind("none", dtype=torch.float64).leak, Seeds(1)("attack")).images
    torch.testing.assert_close(images, straight, rtol=0, atol=1e-3)
    assert about.error(images) == pytest.approx(bare, rel=1e-3)
    assert bare < 0.5 * error(LinearInverse(), about)


def test_what_float32_left_of_it_is_enough_for_most() -> None:
    about = behind("tanh")
    assert about.leak.smashed is not None and (about.leak.smashed.abs() == 1).any()
    assert error(TanhInverse(attack=LinearInverse()), about) < 0.7 * error(LinearInverse(), about)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (case(), "nothing bounded by tanh to undo"),
        (case(lambda shape: nn.Sequential(loud(shape), nn.ReLU(), Faint())), "nothing bounded by tanh to undo"),
        (case(map_client), "nothing bounded by tanh to undo"),
        (behind("tanh", release=noisy), "nothing bounded by tanh to undo"),
        (behind("tanh"), "tanh undone"),
    ],
    ids=["rows", "faint", "map", "noisy", "tanh"],
)
def test_it_says_whether_there_was_anything_to_undo_and_is_the_attack_itself_where_not(about: Case, words: str) -> None:
    found = TanhInverse(attack=LinearInverse()).reconstruct(about.leak, Seeds(1)("attack"))
    plain = LinearInverse().reconstruct(about.leak, Seeds(1)("attack"))
    assert found.evidence.settings.endswith(f"; {words}")
    assert torch.equal(found.images, plain.images) == (words != "tanh undone")


@pytest.mark.parametrize("field", ["smashed", "pairs", "validation"])
def test_one_value_outside_the_range_anywhere_is_no_tanh(field: str) -> None:
    leak = behind("tanh").leak
    assert leak.smashed is not None and leak.auxiliary_pairs is not None
    pairs = leak.auxiliary_pairs
    changed = {
        "smashed": replace(leak, smashed=_outside(leak.smashed)),
        "pairs": replace(leak, auxiliary_pairs=Pairs(_outside(pairs.smashed), pairs.validation_smashed)),
        "validation": replace(leak, auxiliary_pairs=Pairs(pairs.smashed, _outside(pairs.validation_smashed))),
    }[field]
    found = TanhInverse(attack=LinearInverse()).reconstruct(changed, Seeds(1)("attack"))
    assert "nothing bounded" in found.evidence.settings


def _outside(values: Tensor) -> Tensor:
    found = values.clone()
    found[3, 1] = 1.5
    return found


def test_confidences_are_no_sigmoid() -> None:
    leak = behind("none", client=lambda shape: nn.Sequential(loud(shape), nn.Softmax(dim=1))).leak
    attack = TanhInverse(attack=LinearInverse(), squeeze="sigmoid")
    told = {kind: attack.reconstruct(replace(leak, kind=kind), Seeds(1)("a")).evidence.settings for kind in KINDS}
    assert told["hidden"].endswith("sigmoid undone")
    assert told["answers"].endswith("nothing bounded by sigmoid to undo")


class Watching(Attack):
    """Keeps what it is handed."""

    needs = frozenset({Asset.SMASHED})

    def reconstruct(self, leak: Leak, rng: Generator) -> Any:
        HANDED.append(leak)
        return LinearInverse().reconstruct(leak, rng)


HANDED: list[Leak] = []


def test_targets_pairs_answers_and_client_are_undone_alike_and_the_leak_is_left_alone() -> None:
    about = behind("tanh", dtype=torch.float64)
    given = replace(about.leak, defense=Quantise(bits=4))
    HANDED.clear()
    TanhInverse(attack=Watching()).reconstruct(given, Seeds(1)("attack"))
    (leak,) = HANDED
    assert leak.client_weights is not None and leak.client_queries is not None
    assert leak.auxiliary_pairs is not None and leak.smashed is not None and given.smashed is not None
    images = about.leak.auxiliary
    with torch.no_grad():
        expected = behind("none", dtype=torch.float64).leak.client_weights.broadcast(images.images)  # pyright: ignore
        own = leak.client_weights.broadcast(images.images)
    torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(leak.auxiliary_pairs.smashed, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(leak.client_queries(images.images, Generator()), own, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(leak.smashed.tanh(), given.smashed)
    assert len(leak.auxiliary_pairs.validation_smashed) == len(images.validation_images)
    # It acted before the inverse, and has no place behind it.
    assert leak.defense is None and given.defense is not None


def test_an_attack_through_the_client_matches_what_was_squeezed() -> None:
    about = behind("tanh", dtype=torch.float64)
    attack = Likelihood(steps=150, smoothness=(0.0, 0.1), judges=16)
    undone = error(TanhInverse(attack=attack), about)
    assert undone < 0.9 * error(attack, about)
    assert undone == pytest.approx(error(attack, behind("none", dtype=torch.float64)), rel=0.05)


def test_it_is_the_attack_with_the_step_undone() -> None:
    attack = attacks.validate_python({"kind": "tanh_inverse", "squeeze": "sigmoid", "attack": {"kind": "likelihood"}})
    assert attack.title == "likelihood, sigmoid undone"
    assert attack.needs == {Asset.SMASHED, Asset.CLIENT_WEIGHTS}
    assert attack.controls == {"loss_fell"}
    assert attack.repeats == 1
    both = {"kind": "tanh_inverse", "attack": {"kind": "averaging", "answers": 3, "attack": {"kind": "likelihood"}}}
    assert attacks.validate_python(both).repeats == 3
    assert Asset.REPEATS in attacks.validate_python(both).needs


def test_what_knows_the_step_by_itself_is_refused() -> None:
    assert SparseInverse().refuses(low_rank_factor((4,), 2)) == ""
    assert "cannot undo" in TanhInverse(attack=SparseInverse()).refuses(low_rank_factor((4,), 2))
    assert TanhInverse(attack=LinearInverse()).refuses(low_rank_factor((4,), 2)) == ""


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"kind": "linear_inverse", "leak": "training"}, "say them beside it"),
        ({"kind": "linear_inverse", "rounds": [1]}, "say them beside it"),
        ({"kind": "tests.active:Magnet"}, "is active"),
    ],
)
def test_what_looks_elsewhere_is_refused(inner: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        attacks.validate_python({"kind": "tanh_inverse", "attack": inner})


def test_it_runs_at_the_cut_and_behind_it() -> None:
    scenario = tiny.scenario(
        "attacks=[{kind: tanh_inverse, leak: training, rounds: [1], attack: {kind: linear_inverse}},"
        " {kind: tanh_inverse, attack: {kind: linear_inverse}}]",
        "threats=[{kind: curious_server}, {kind: end_to_end}]",
    )
    assert [(duel.leak, duel.round) for duel in scenario.duels] == [("training", 1), ("inference", 3), ("hidden", 3)]
