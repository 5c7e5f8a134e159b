"""Means of answers: what they need, what they refuse, and the law of their noise."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fedsplit.attacks.averaging import Averaging
from fedsplit.attacks.base import AnyAttack, Attack
from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.seeding import Seeds
from tests import tiny
from tests.attacks.leaks import case, map_client
from tests.federation.builders import auxiliary, federation, plan_of, train
from tests.federation.test_exposure import Identity

attacks: TypeAdapter[Attack] = TypeAdapter(AnyAttack)


@pytest.mark.parametrize("answers", [4, 16, 64])
def test_behind_independent_noise_the_error_falls_with_the_number_of_answers(answers: int) -> None:
    def mean_of(count: int) -> float:
        def release(smashed: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
            return smashed + 0.02 * torch.randn((count, *smashed.shape), generator=rng).mean(dim=0)

        about = case(map_client, release, auxiliary=900)
        return about.error(
            Averaging(attack=LinearInverse(), answers=count).reconstruct(about.leak, Seeds(1)("a")).images
        )

    # The variance of the noise falls with the number itself; a ridge, which trades it against bias, gains less.
    assert answers**0.5 < mean_of(1) / mean_of(answers) < 1.1 * answers


@pytest.mark.parametrize("answers", [1, 4, 16, 64])
def test_where_what_crosses_is_the_image_the_error_is_the_noise_over_the_number_of_answers(
    answers: int, tmp_path: Path
) -> None:
    plan, data = plan_of(model=Identity(), cut="same", defense=GaussianNoise(std=0.5)), federation()
    trained = train(tmp_path, plan, data, SplitFedV1(rounds=1, batch_size=6), Recording(inference=(1,)))
    attack = Averaging(attack=AsItIs(), answers=answers)
    exposure = expose(plan, trained, data, auxiliary(), Observation("inference", 1, True, repeats=attack.repeats))
    images = torch.cat([own.pixels[own.rows.argsort()] for own in data.visitors])
    guess = attack.reconstruct(exposure.leak, Seeds(1)("attack")).images
    assert (guess - images).square().mean() == pytest.approx(0.25 / answers, rel=0.2)


class AsItIs(Attack):
    """Takes what crossed for the image."""

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED})

    def reconstruct(self, leak: Leak, rng: torch.Generator) -> Reconstruction:
        assert leak.smashed is not None
        return Reconstruction(leak.smashed)


def test_it_is_the_attack_on_means() -> None:
    attack = attacks.validate_python({"kind": "averaging", "answers": 4, "attack": {"kind": "likelihood"}})
    assert attack.title == "likelihood, mean of 4"
    assert attack.needs == {Asset.SMASHED, Asset.CLIENT_WEIGHTS, Asset.REPEATS}
    assert attack.controls == {"loss_fell"}
    assert attack.repeats == 4


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"kind": "linear_inverse", "leak": "training"}, "say them beside it"),
        ({"kind": "linear_inverse", "rounds": [1]}, "say them beside it"),
        ({"kind": "averaging", "attack": {"kind": "linear_inverse"}}, "say them beside it"),
        ({"kind": "tests.active:Magnet"}, "is active"),
    ],
)
def test_what_cannot_be_averaged_for_is_refused(inner: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        attacks.validate_python({"kind": "averaging", "attack": inner})


def test_it_takes_a_threat_that_waits() -> None:
    scenario = tiny.scenario(
        "attacks=[{kind: averaging, answers: 3, attack: {kind: linear_inverse}}, {kind: linear_inverse}]",
        "threats=[{kind: split_network}, {kind: curious_server, repeats: true}]",
    )
    assert [(duel.threat_name, duel.attack_name) for duel in scenario.duels] == [
        ("split_network", "linear_inverse"),
        ("curious_server (repeated answers)", "linear_inverse, mean of 3"),
        ("curious_server (repeated answers)", "linear_inverse"),
    ]
