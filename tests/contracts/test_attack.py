"""What every attack promises; a plug-in passes it by being added to SETTINGS."""

import copy
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from fedsplit.attacks.base import ATTACKS, ActiveAttack, AnyAttack, Attack, ClassAttack
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.seeding import Seeds
from tests.attacks import makers
from tests.attacks.leaks import (
    COLOUR,
    Case,
    case,
    flat_client,
    map_client,
    noisy,
    pooled_client,
    rows_client,
    undefended,
    useless,
)
from tests.records.contents import tensors_of

QUICK: dict[str, dict[str, Any]] = {
    "inverse_network": {"epochs": 4, "batch_size": 16, "learning_rates": (0.003,)},
    "averaging": {"attack": {"kind": "linear_inverse"}},
    "tanh_inverse": {"attack": {"kind": "linear_inverse"}},
    "likelihood": {"steps": 120, "smoothness": (0.0, 0.1), "judges": 16},
    "intermediate_features": makers.SMALL | {"generator": {"kind": "tests.attacks.makers:Bars"}, "feature_steps": 4},
    "plug_and_play": makers.SMALL | {"generator": {"kind": "tests.attacks.makers:Bars"}},
}
# Active ones need a federation that they served: tests/attacks has them.
PASSIVE = [kind for kind in ATTACKS.shipped if not issubclass(ATTACKS.shipped_member(kind), ActiveAttack)]
OF_CLASSES = [kind for kind in PASSIVE if issubclass(ATTACKS.shipped_member(kind), ClassAttack)]
SETTINGS: list[dict[str, Any]] = [{"kind": kind, **QUICK.get(kind, {})} for kind in PASSIVE if kind not in OF_CLASSES]
CLIENTS = (rows_client, flat_client, map_client, pooled_client)

attacks: TypeAdapter[Attack] = TypeAdapter(AnyAttack)


@pytest.fixture(params=SETTINGS, ids=lambda settings: settings["kind"])
def attack(request: pytest.FixtureRequest) -> Attack:
    return attacks.validate_python(request.param)


def walkable(attack: Attack, about: Case) -> Case:
    """The case, where the attack does not refuse its client."""
    assert about.leak.client_weights is not None
    if reason := attack.refuses(about.leak.client_weights.broadcast):
        pytest.skip(reason)
    return about


def error(attack: Attack, about: Case) -> float:
    return about.error(attack.reconstruct(about.leak, Seeds(1)("attack")).images)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("shape", [(1, 12, 12), COLOUR], ids=["grey", "colour"])
def test_it_rebuilds_an_undefended_leak(attack: Attack, client: Any, shape: Any):
    about = walkable(attack, case(client, undefended, shape=shape))
    guess = attack.reconstruct(about.leak, Seeds(1)("attack"))
    assert guess.images.shape == about.truth.shape
    assert guess.images.dtype == about.truth.dtype
    assert torch.isfinite(guess.images).all()
    assert about.error(guess.images) < 0.85 * about.anchor
    assert guess.evidence.settings


@pytest.mark.parametrize("queries", [True, False], ids=["queries", "pairs"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_leak_that_says_nothing_gives_the_mean_image(attack: Attack, client: Any, queries: bool):
    about = walkable(attack, case(client, useless, queries=queries))
    assert about.anchor * 0.98 <= error(attack, about) <= 1.03 * about.anchor


def test_a_permuted_leak_gives_the_permuted_answer(attack: Attack):
    about = case()
    order = torch.randperm(len(about.truth), generator=Seeds(0)("order"))
    straight = attack.reconstruct(about.leak, Seeds(1)("attack")).images
    permuted = attack.reconstruct(about.leak.permuted(order), Seeds(1)("attack")).images
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-4)
    assert about.error(permuted) > about.anchor


@pytest.mark.parametrize("release", [undefended, noisy])
def test_the_same_stream_gives_the_same_bits_and_the_leak_is_left_alone(attack: Attack, release: Any):
    about = case(release=release)
    before = fingerprint_of(tensors_of(about.leak))
    state = torch.random.get_rng_state()
    first = attack.reconstruct(about.leak, Seeds(1)("attack"))
    again = attack.reconstruct(about.leak, Seeds(1)("attack"))
    assert torch.equal(first.images, again.images)
    assert first.evidence == again.evidence
    assert fingerprint_of(tensors_of(about.leak)) == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_noise_does_not_help_it(attack: Attack):
    assert error(attack, case()) < error(attack, case(release=noisy)) < case().anchor


def test_double_precision_is_kept(attack: Attack):
    about = case(dtype=torch.float64)
    guess = attack.reconstruct(about.leak, Seeds(1)("attack")).images
    assert guess.dtype == torch.float64
    assert about.error(guess) == pytest.approx(error(attack, case()), rel=0.1)


def test_the_evidence_has_what_its_controls_need(attack: Attack):
    evidence = attack.reconstruct(case().leak, Seeds(1)("attack")).evidence
    if "loss_fell" in attack.controls:
        assert evidence.losses[-1] < 0.5 * evidence.losses[0]
    if "parameters_moved" in attack.controls:
        assert evidence.before != evidence.after


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", OF_CLASSES)
def test_guesses_at_classes_are_those_that_were_wanted(kind: str, dtype: torch.dtype):
    attack = attacks.validate_python({"kind": kind, **QUICK[kind]})
    leak = makers.class_leak(copy.deepcopy(makers.bar_model()).to(dtype), weights=True, dtype=dtype)
    before, state = fingerprint_of(tensors_of(leak)), torch.random.get_rng_state()
    guess, again = (attack.reconstruct(leak, Seeds(1)("attack")) for _ in range(2))
    assert torch.equal(guess.images, again.images) and guess.evidence == again.evidence
    assert guess.unguided is not None and guess.evidence.settings
    for images in (guess.images, guess.unguided):
        assert images.shape == (leak.targets, *leak.image_shape) and images.dtype == dtype
        assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert fingerprint_of(tensors_of(leak)) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    if "loss_fell" in attack.controls:
        assert min(guess.evidence.losses[1:]) < 0.9 * guess.evidence.losses[0]
    if "parameters_moved" in attack.controls:
        assert guess.evidence.before != guess.evidence.after
    wanted = attack.wanted(makers.CLASSES)
    assert wanted is not None and wanted.bincount().unique().numel() == 1


@pytest.mark.parametrize("kind", ATTACKS.shipped)
def test_settings_survive_yaml(kind: str):
    attack = attacks.validate_python({"kind": kind, **QUICK.get(kind, {})})
    text = yaml.safe_dump(attacks.dump_python(attack, mode="json"))
    assert attacks.validate_python(yaml.safe_load(text)) == attack


@pytest.mark.parametrize("kind", ATTACKS.shipped)
def test_unknown_settings_are_refused(kind: str):
    with pytest.raises(ValidationError, match="Extra inputs"):
        attacks.validate_python({"kind": kind, "oracle": True})
