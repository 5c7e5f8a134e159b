"""What belongs to the ordinary training of a row, and what to one whose server an attack has."""

from pathlib import Path

from fedsplit.records.exhibit import Exhibit
from fedsplit.records.outcome import Outcome
from fedsplit.report.folder import RunFolder
from fedsplit.report.page import write_report
from fedsplit.report.summary import summarise
from fedsplit.simulate import simulate
from tests import tiny

SERVED = (
    "protocol={kind: sequential, rounds: 2, batch_size: 16}",
    "model.width=16",
    "optimizer={kind: adam, learning_rate: 0.02}",
)
PASSIVE = "threats=[{kind: malicious_server}]", "attacks=[{kind: linear_inverse}]"
BOTH = PASSIVE[0], "attacks=[{kind: 'tests.active:Magnet', strength: 100.0}, {kind: linear_inverse}]"


def told(outcome: Outcome) -> object:
    """All but wall times."""
    return outcome.model_copy(update={"seconds": 0.0, "training_seconds": 0.0})


def test_an_active_attack_changes_no_number_of_the_passive_ones_and_is_reported_apart(tmp_path: Path) -> None:
    said: list[str] = []
    alone = simulate(tiny.scenario(*SERVED, *PASSIVE), tmp_path / "alone", said.append)
    both = simulate(tiny.scenario(*SERVED, *BOTH), tmp_path / "both", said.append)
    ordinary = [told(outcome) for outcome in both.outcomes if not outcome.hijacked]
    assert ordinary == [told(outcome) for outcome in alone.outcomes]
    served = [outcome for outcome in both.outcomes if outcome.hijacked]
    assert [outcome.defense for outcome in served] == ["none", "noise"]
    # 120 rows in two rounds, each once; the guess is the mean image, which no control lets pass.
    assert all(outcome.settings == "240 rows seen" and not outcome.valid for outcome in served)
    assert said.count("none, seed 0, hijacked by tests.active:Magnet") == 1

    summary = summarise(both, RunFolder(tmp_path / "both").exhibits())
    for row in summary.rows:
        (outcome,) = (one for one in alone.outcomes if one.defense == row.defense)
        assert row.utility.mean == outcome.utility.accuracy
        assert row.blocks == tuple(outcome.activity)
        assert (row.hijacked is None) == (row.attack == "linear_inverse")
    hijacked = {row.defense: row.hijacked.mean for row in summary.rows if row.hijacked is not None}
    assert hijacked == {outcome.defense: outcome.utility.accuracy for outcome in served}
    # Or nothing above would tell the one training from the other.
    assert all(row.utility.mean != hijacked[row.defense] for row in summary.rows)


def test_a_finished_training_is_found_again_by_what_it_depends_on(tmp_path: Path) -> None:
    said: list[str] = []
    simulate(tiny.scenario(*SERVED, *BOTH), tmp_path, said.append)
    simulate(tiny.scenario(*SERVED, *BOTH), tmp_path, said.append)
    assert sum("finished before" in line for line in said) == 4
    stronger = BOTH[1].replace("100.0", "50.0")
    found = simulate(tiny.scenario(*SERVED, BOTH[0], stronger), tmp_path, said.append)
    rounds = [path for path in tmp_path.glob("*/checkpoint") if path.is_dir()]
    assert len(rounds) == 4 and len(found.outcomes) == 4


def test_where_all_attacks_are_active_the_report_knows_no_ordinary_accuracy(tmp_path: Path) -> None:
    scenario = tiny.scenario(*SERVED, BOTH[0], "attacks=[{kind: 'tests.active:Magnet'}]")
    outcomes = simulate(scenario, tmp_path, lambda _: None)
    assert len(outcomes.outcomes) == 2
    (row, _) = summarise(outcomes, RunFolder(tmp_path).exhibits()).rows
    assert row.utility.mean is None and row.hijacked is not None and row.hijacked.mean is not None
    page = write_report(tmp_path).read_text()
    assert "tests.active:Magnet (" in page


def test_exhibits_of_changed_answers_have_the_true_ones_beside_them(tmp_path: Path) -> None:
    changes = (
        "defenses={poison: {kind: poison_flipping, share: 0.4, steps: 2, passes: [0]}}",
        "threats=[{kind: confidences}, {kind: split_network}]",
        "protocol.rounds=1",
    )
    outcomes = simulate(tiny.scenario(*changes), tmp_path, lambda _: None).outcomes
    found = dict[tuple[str, str], Exhibit]()
    for outcome, exhibit in zip(outcomes, RunFolder(tmp_path).exhibits(), strict=True):
        found[outcome.defense, outcome.threat] = exhibit
    assert len(found) == 4
    changed = {key for key, exhibit in found.items() if exhibit.clean is not None}
    assert changed == {("poison", "confidences")}
    exhibit = found["poison", "confidences"]
    assert exhibit.clean is not None
    # Some are falsified, and the others are where they would have been.
    same = (exhibit.map - exhibit.clean).abs().amax(dim=1) < 1e-6
    assert 0 < int(same.sum()) < 16
