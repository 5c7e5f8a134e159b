from pathlib import Path

import pytest

from fedsplit.briefing import card, estimate
from fedsplit.checks import check_cuts
from fedsplit.errors import ScenarioError
from fedsplit.scenario import Scenario
from fedsplit.simulate import simulate
from tests import tiny

SHAPE = (1, 8, 8)


def lines(scenario: Scenario) -> list[str]:
    return card(scenario, SHAPE, 10).splitlines()


def test_the_card_tells_who_holds_what_and_who_sees_what() -> None:
    assert lines(tiny.scenario("threats=[{kind: split_network, knows_defense: 'no'}]")) == [
        "Digits: images 1 x 8 x 8, 10 classes, 2 clients",
        "clients hold   rows; their images and labels",
        "server holds   hidden, logits",
        "crosses        up: 1 x 8 x 8 smashed values per image, labels; down: cut gradients",
        "defenses       none (none), noise (gaussian_noise)",
        "targets        16 private images",
        "split_network (unaware of defenses) sees or knows smashed data, "
        "pairs of its own images with their smashed data",
        "linear_inverse (under split_network (unaware of defenses), inference leak of round 3) needs smashed data, "
        "pairs of its own images with their smashed data",
    ]


def test_the_card_of_a_head_at_home_and_of_a_relay_between_clients() -> None:
    shown = lines(tiny.scenario("head=logits", "protocol.kind=sequential", "threats=[{kind: curious_server}]"))
    assert shown[1:4] == [
        "clients hold   rows, logits; their images and labels",
        "server holds   hidden",
        "crosses        up: 1 x 8 x 8 smashed values per image, gradients at the head; down: "
        "features and cut gradients",
    ]
    seen = next(line for line in shown if line.startswith("curious_server sees"))
    assert "gradients at the server's last features" in seen and "released answers" in seen
    assert ", labels" not in seen and "client segments" not in seen


def test_the_card_tells_which_images_are_public_where_they_are_not_the_role() -> None:
    assert not [line for line in lines(tiny.scenario()) if line.startswith("public")]
    told = lines(tiny.scenario("public={dataset: {kind: phantoms}, count: 2000}"))
    assert "public images  2,000 images of synthetic phantoms" in told


def test_the_card_has_a_line_per_threat_and_per_duel() -> None:
    scenario = tiny.scenario(
        "threats=[{kind: eavesdropper, queries: false}, {kind: eavesdropper}, {kind: curious_server}]",
        "attacks=[{kind: linear_inverse, rounds: [1, 2]}, {kind: linear_inverse, leak: training}]",
        "targets={from: private, count: all}",
    )
    shown = lines(scenario)
    # Without queries an eavesdropper has no pairs to learn from.
    assert len(scenario.duels) == 6 and sum(" needs " in line for line in shown) == 6
    assert sum(" sees or knows " in line for line in shown) == 3
    assert "targets        all private images" in shown
    assert any(line.startswith("linear_inverse-2 (under curious_server, training leak of round 3)") for line in shown)


def test_the_card_says_which_attacks_a_bound_is_about() -> None:
    shown = lines(tiny.scenario("metrics=[{kind: psnr}, {kind: mse}]", "bounds=[{kind: ideal_inversion_error}]"))
    assert any(line.startswith("bound          ideal_inversion_error, of attacks whose guess is") for line in shown)


def test_the_card_and_a_cut_that_moves() -> None:
    assert "1 x 8 x 16" in card(tiny.scenario("model.width=16"), SHAPE, 10)
    both = tiny.scenario("defenses={none: {kind: none}, rank: {kind: low_rank, rank: 3}}")
    assert estimate(both, SHAPE, 10, 300).bytes[1] == 16 * 8 * 8 * 4, "the row that needs most"


def test_the_estimate_counts_what_crosses_at_the_head(tmp_path: Path) -> None:
    scenario = tiny.scenario("head=logits", "defenses={}", "protocol={kind: parallel, sync: round, batch_size: 20}")
    expected = estimate(scenario, SHAPE, 10, 300)
    # 60 rows at each client are whole batches, so a mean is exact.
    found = simulate(scenario, tmp_path, lambda _: None).outcomes[0].bytes_per_step
    assert (found.up, found.down) == expected.bytes == (20 * 4 * (64 + 8), 20 * 4 * (64 + 8))


def test_the_estimate_is_what_a_run_then_takes(tmp_path: Path) -> None:
    scenario = tiny.scenario(
        "protocol={kind: splitfed_v1, rounds: 2, local_epochs: 2, batch_size: 20}", "seeds=[0, 1]", "defenses={}"
    )
    expected = estimate(scenario, SHAPE, 10, 300)
    outcomes = simulate(scenario, tmp_path, lambda _: None).outcomes
    # 60 rows at each of two clients: three whole batches, twice in each of two rounds, for two seeds.
    assert expected.steps == 2 * 3 * 2 * 2 * 2
    assert (expected.cells, expected.attacks) == (2, len(outcomes))
    assert expected.bytes == (20 * (8 * 8 * 4 + 8), 20 * 8 * 8 * 4)
    assert all((each.bytes_per_step.up, each.bytes_per_step.down) == expected.bytes for each in outcomes)
    assert str(expected).startswith("2 trainings, 2 attacks (controls not counted), 48 steps in all, ")


@pytest.mark.parametrize(
    ("larger", "at_least"),
    [
        # The hidden layer joins 8 rows of `width` to `width` units; Adam holds four numbers for each weight.
        (("model.width=800",), 4 * 4 * (8 * 800 * 800)),
        (("precision=float64", "model.width=800"), 4 * 8 * (8 * 800 * 800)),
        (("attacks.0.rounds=[1, 2, 3]", "model.width=800"), 3 * 4 * 4 * (8 * 800 * 800)),
        (("targets.from=test", "targets.count=all"), 0),
    ],
)
def test_memory_grows_with_what_must_be_held(larger: tuple[str, ...], at_least: int) -> None:
    small = estimate(tiny.scenario(), SHAPE, 10, 300).memory
    large = estimate(tiny.scenario(*larger), SHAPE, 10, 300).memory
    assert large > max(small, at_least)


def test_what_is_far_too_large_is_estimated_without_being_made() -> None:
    scenario = tiny.scenario("model.width=1000000")
    check_cuts(scenario, SHAPE, 10)
    assert estimate(scenario, SHAPE, 10, 300).memory > 10**13
    with pytest.raises(ScenarioError, match="cannot be built"):
        check_cuts(tiny.scenario("model.width=1000000000000"), SHAPE, 10)


def test_the_card_says_who_is_active() -> None:
    served = "protocol={kind: sequential, rounds: 3}", "threats=[{kind: curious_server}, {kind: malicious_server}]"
    scenario = tiny.scenario(*served, "attacks=[{kind: linear_inverse}, {kind: 'tests.active:Magnet'}]")
    told = [line for line in lines(scenario) if "need not follow the protocol" in line or "is active" in line]
    assert [line.split()[0] for line in told] == ["malicious_server", "tests.active:Magnet"]
    assert "under malicious_server" in told[1]
    found = estimate(scenario, SHAPE, 10, 300)
    # Two rows, each with an ordinary training (two threats) and a hijacked one.
    assert (found.cells, found.attacks) == (4, 2 * (2 + 1))
