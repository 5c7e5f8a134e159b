"""What every threat promises; a plug-in passes it by being added to SETTINGS."""

from itertools import combinations
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from fedsplit.records.leak import Asset, closure
from fedsplit.threats.base import THREATS, AnyThreat, Threat
from tests.records.test_leak import full_leak
from tests.threats.views import held, unchanged

KNOWLEDGE = ("no", "algorithm", "parameters")
SETTINGS: list[dict[str, Any]] = [
    *({"kind": kind, "knows_defense": known} for kind in THREATS.shipped for known in KNOWLEDGE),
    *({"kind": kind, "repeats": True} for kind in THREATS.shipped),
    {"kind": "eavesdropper", "queries": False},
    {"kind": "end_to_end", "queries": False},
    {"kind": "curious_server", "queries": False},
    {"kind": "malicious_server", "aggregates": False},
    {"kind": "curious_server", "aggregates": False},
    {"kind": "curious_server", "aggregates": False, "queries": False},
    {"kind": "plug_and_play", "access": "scores"},
]

threats: TypeAdapter[Threat] = TypeAdapter(AnyThreat)


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def threat(request: pytest.FixtureRequest) -> Threat:
    return threats.validate_python(request.param)


def test_the_view_has_the_fields_of_its_assets_and_no_other(threat: Threat) -> None:
    assert held(threat) == {asset.value for asset in threat.assets}
    assert unchanged(threat.view(full_leak()))


def test_assets_are_the_grants_with_what_they_imply(threat: Threat) -> None:
    assert threat.assets - {Asset.DEFENSE, Asset.REPEATS} == closure(threat.grants)
    assert closure(threat.assets) == threat.assets


def test_the_defense_is_known_where_its_parameters_are(threat: Threat) -> None:
    assert Asset.DEFENSE not in threat.grants
    assert (Asset.DEFENSE in threat.assets) == (threat.knows_defense == "parameters")


def test_it_waits_for_more_answers_only_where_there_are_more(threat: Threat) -> None:
    assert (Asset.REPEATS in threat.assets) == threat.repeats


def test_every_adversary_sees_something_to_invert(threat: Threat) -> None:
    assert {Asset.SMASHED, Asset.SCORES} & threat.assets


def test_looking_twice_shows_the_same(threat: Threat) -> None:
    view = threat.view(full_leak())
    assert threat.view(view) == view


def test_it_survives_yaml(threat: Threat) -> None:
    text = yaml.safe_dump(threats.dump_python(threat, mode="json"))
    assert threats.validate_python(yaml.safe_load(text)) == threat


def test_it_refuses_an_unknown_key(threat: Threat) -> None:
    with pytest.raises(ValidationError, match="surprise"):
        threats.validate_python({"kind": threat.kind, "surprise": 1})


def test_knowing_everything_is_the_default() -> None:
    assert all(threats.validate_python({"kind": kind}).knows_defense == "parameters" for kind in THREATS.shipped)


@pytest.mark.parametrize("kind", THREATS.shipped)
def test_a_title_tells_what_is_known_of_the_defense_where_that_is_not_everything(kind: str) -> None:
    unaware, algorithm, everything = (
        threats.validate_python({"kind": kind, "knows_defense": known, "auxiliary": {"count": 100}}).title
        for known in KNOWLEDGE
    )
    assert everything == f"{kind} (100 images)"
    assert unaware == f"{kind} (unaware of defenses; 100 images)"
    assert algorithm == f"{kind} (knows no parameters; 100 images)"


def test_two_of_a_kind_share_a_title_only_where_they_may_and_know_the_same() -> None:
    for one, other in combinations((threats.validate_python(settings) for settings in SETTINGS), 2):
        assert (one.title == other.title) == (
            (one.kind, one.assets, one.knows_defense) == (other.kind, other.assets, other.knows_defense)
        )


def test_a_malicious_server_is_a_curious_one_that_does_not_follow_the_protocol() -> None:
    for settings in ({}, {"aggregates": False}, {"aggregates": False, "queries": False}):
        curious, malicious = (
            threats.validate_python({"kind": kind, **settings}) for kind in ("curious_server", "malicious_server")
        )
        assert malicious.assets == curious.assets
        assert malicious.active and not curious.active
