import json
from collections import Counter
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load
from torch import Generator, Tensor, nn
from typer.testing import CliRunner

from fedsplit import laboratory
from fedsplit.attacks.base import Attack
from fedsplit.cli import app
from fedsplit.defenses.base import Defense, Deployed
from fedsplit.document import dump
from fedsplit.errors import EngineError
from fedsplit.laboratory import Assignment, Laboratory
from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.parties import gather
from fedsplit.records.images import Holding, Images
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.outcome import Outcome, Outcomes
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.records.step import ClientStep
from fedsplit.records.truth import Truth
from fedsplit.report.folder import CellFolder, RunFolder, read_outcomes
from fedsplit.report.page import write_report
from fedsplit.seeding import Seeds
from fedsplit.simulate import simulate
from fedsplit.split import Segments
from tests import tiny
from tests.federation.builders import bits
from tests.records.contents import tensors_of

HERE = "tests.test_simulate"


class Average(Attack):
    """Guesses the mean image and counts how often it is asked."""

    needs: ClassVar = frozenset({Asset.SMASHED})
    calls: ClassVar[Counter[str]] = Counter()
    told: ClassVar[list[Leak]] = []

    name: str = "average"

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.smashed is not None
        Average.calls[self.name] += 1
        Average.told.append(leak)
        return Reconstruction(leak.auxiliary.images.mean(dim=0).expand(len(leak.smashed), *leak.image_shape))


class Failing(Attack):
    """Raises what it is told to, or hands back what is no image."""

    needs: ClassVar = frozenset({Asset.SMASHED})
    act: ClassVar[Callable[[Leak], Tensor]]

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        return Reconstruction(Failing.act(leak))


class BrokenMetric(Metric):
    """A metric that cannot count."""

    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    gives: Literal["error", "nan"] = "error"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        if self.gives == "error":
            raise ZeroDivisionError("no one\nto divide by")
        return Measurement(torch.full((len(guess),), torch.nan))


class Tripping(Defense):
    """Does nothing but fail once, at the moment that it is told."""

    at: Literal["warm_start", "augment", "after_step", "deploy"]

    patience: ClassVar[int | None] = None
    """How many calls go well before one does not; None: all do."""

    def _step(self, moment: str) -> None:
        if moment != self.at or Tripping.patience is None:
            return
        Tripping.patience -= 1
        if Tripping.patience < 0:
            Tripping.patience = None
            raise RuntimeError("tripped\nover a wire")

    def warm_start(self, blocks: nn.Module, public: Images, rng: Generator) -> tuple[str, ...]:
        self._step("warm_start")
        return ()

    def augment(self, data: Holding, public: Images, model: nn.Module, rng: Generator) -> Holding:
        self._step("augment")
        return data

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        self._step("after_step")

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        self._step("deploy")
        return Defense.deploy(self, model, data, rng)


def run(root: Path, *assignments: str) -> tuple[Outcomes, list[str]]:
    said: list[str] = []
    outcomes = simulate(tiny.scenario(*assignments), root, said.append)
    assert "exact copies dropped" in said[0]
    return outcomes, said[1:]


def numbers(outcomes: Outcomes) -> list[dict[str, Any]]:
    """All that is told of the outcomes but how long it took."""
    return [outcome.model_dump(exclude={"seconds", "training_seconds"}) for outcome in outcomes.outcomes]


def standing(root: Path, cell: str) -> bytes:
    """The tensors of a checkpoint."""
    with safe_open(root / cell / "checkpoint" / "standing-1.safetensors", framework="pt") as file:
        return b"".join(file.get_tensor(name).numpy().tobytes() for name in sorted(file.keys()))


def failure(root: Path, *assignments: str) -> str:
    with pytest.raises(EngineError) as caught:
        run(root, *assignments)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 5
    return str(caught.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcomes]:
    root = tmp_path_factory.mktemp("finished")
    return root, run(root)[0]


# What lies on the disk after the command.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A whole run on a stand-in by the command, and what it printed."""
    folder = tmp_path_factory.mktemp("written")
    raw = tiny.raw(
        "dataset={kind: medical_mnist, image_size: 8, limit: 300, stand_in: phantoms, near_duplicates: null}",
        f"dataset.root={json.dumps(str(folder / 'nothing'))}",
        "defenses={noise + rank: [{kind: low_rank, rank: 4}, {kind: laplace_noise, scale: 0.5}]}",
        "protocol.rounds=2",
    )
    path = folder / "tiny.yaml"
    path.write_text(dump(raw))
    result = CliRunner().invoke(app, ["simulate", str(path), "--out", str(folder / "run")])
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


def test_a_run_writes_its_files(written: tuple[Path, str]) -> None:
    root, _ = written
    assert {"outcomes.json", "table.md", "report.html", "figures", "scenario.yaml"} <= {
        path.name for path in root.iterdir()
    }
    assert list((root / "figures").glob("*.png"))
    cells = sorted(path.parent for path in root.glob("*/outcomes.json"))
    assert [cell.name.startswith(("noise_rank", "none")) for cell in cells] == [True, True]
    for cell in cells:
        names = {str(path.relative_to(cell)) for path in cell.rglob("*") if path.is_file()}
        assert {"scenario.yaml", "outcomes.json", "checkpoint/standing-1.safetensors"} <= names
        assert any(name.startswith("ledger/") for name in names)
    assert not [path for path in root.rglob("*") if path.suffix in {".pkl", ".pt", ".pth", ".pickle", ".partial"}]


def test_outcomes_have_the_least_content_that_others_rely_on(written: tuple[Path, str]) -> None:
    root, _ = written
    content = json.loads((root / "outcomes.json").read_text())
    assert content["schema"] == 1 and content["scenario"] == "tiny"
    assert content["data"]["kind"] == "medical_mnist" and content["data"]["stand_in"] is True
    assert {"python", "torch", "fedsplit"} <= content["versions"].keys()
    assert [outcome["defense"] for outcome in content["outcomes"]] == ["none", "noise + rank"]
    for outcome in content["outcomes"]:
        assert (outcome["threat"], outcome["attack"], outcome["leak"]) == (
            "curious_server",
            "linear_inverse",
            "inference",
        )
        assert (outcome["round"], outcome["seed"], outcome["targets"]) == (2, 0, 16)
        assert outcome["knows_defense"] == "parameters" and outcome["headline"] == "psnr"
        assert isinstance(outcome["valid"], bool) and bool(outcome["reason"]) is not outcome["valid"]
        (score,) = outcome["scores"].values()
        assert score["low"] <= score["mean"] <= score["high"] and score["unit"] == "dB"
        assert {"mean_image", "class_mean_oracle", "nearest_auxiliary_oracle"} == outcome["anchors"].keys()
        assert all(isfinite(anchor["psnr"]) for anchor in outcome["anchors"].values())
        assert all(control.keys() == {"ok", "detail"} for control in outcome["controls"].values())
        assert 0 <= outcome["utility"]["accuracy"] <= 1 and outcome["seconds"] > 0
        assert outcome["bytes_per_step"].keys() == {"up", "down"}
        assert outcome["training_seconds"] > 0
        assert all(0 < block["share"] <= 1 and block["per_pixel"] > 0 for block in outcome["activity"].values())
    assert [list(outcome["activity"]) for outcome in content["outcomes"]] == [["rows"], ["rows", "rows_factor"]]
    assert content["data"]["classes"][0] == "phantom 0"
    undefended, defended = (outcome["bytes_per_step"] for outcome in content["outcomes"])
    # 60 rows at each client are batches of 16, 16, 16, 12. 8 rows of 8 values, or a rank of 4; a label has 8 bytes.
    assert undefended == {"up": 15 * (4 * 8 * 8 + 8), "down": 15 * 4 * 8 * 8}
    assert defended == {"up": 15 * (4 * 4 + 8), "down": 15 * 4 * 4}


def test_a_stand_in_is_named_in_every_output(written: tuple[Path, str]) -> None:
    root, printed = written
    notice = "synthetic stand-in, not Medical MNIST"
    assert notice in " ".join(printed.split())
    for name in ("table.md", "outcomes.json", "report.html"):
        assert notice in (root / name).read_text(), name


# What is run again, and what is not.


def test_the_same_seed_gives_the_same_numbers(finished: tuple[Path, Outcomes], tmp_path: Path) -> None:
    root, outcomes = finished
    again, _ = run(tmp_path)
    assert numbers(again) == numbers(outcomes)
    assert standing(tmp_path, "noise-seed-0") == standing(root, "noise-seed-0")
    other, _ = run(tmp_path / "other", "seeds=[1]")
    assert numbers(other) != numbers(outcomes)


def test_another_attack_changes_no_training(finished: tuple[Path, Outcomes], tmp_path: Path) -> None:
    root, outcomes = finished
    more, _ = run(tmp_path, f"attacks=[{{kind: '{HERE}:Average'}}, {{kind: linear_inverse}}]")
    assert standing(tmp_path, "noise-seed-0") == standing(root, "noise-seed-0")
    assert [kept for kept in numbers(more) if kept["attack"] == "linear_inverse"] == numbers(outcomes)


def test_finished_cells_are_not_run_again_and_a_change_runs_what_it_changes(tmp_path: Path) -> None:
    counting = ["defenses={a: {kind: low_rank, rank: 2}, b: {kind: low_rank, rank: 4}}"]
    counting.append(f"attacks=[{{kind: '{HERE}:Average', name: reruns}}]")
    first, _ = run(tmp_path, *counting)
    calls = Average.calls["reruns"]
    again, said = run(tmp_path, *counting)
    assert again == first and Average.calls["reruns"] == calls
    assert said == [f"{row}, seed 0: finished before" for row in ("none", "a", "b")]
    changed, said = run(tmp_path, *counting, "defenses.b.rank=3")
    assert said == ["none, seed 0: finished before", "a, seed 0: finished before", "b, seed 0"]
    assert numbers(changed)[:2] == numbers(first)[:2] and numbers(changed)[2] != numbers(first)[2]
    more, said = run(tmp_path, *counting, "seeds=[0, 1]")
    assert said[:2] == ["none, seed 0: finished before", "a, seed 0: finished before"]
    assert said[2:] == ["b, seed 0", "none, seed 1", "a, seed 1", "b, seed 1"]
    assert {outcome.seed for outcome in more.outcomes} == {0, 1}


def test_another_metric_scores_again_without_training_again(tmp_path: Path) -> None:
    defense = f"defenses={{trip: {{kind: '{HERE}:Tripping', at: after_step}}}}"
    first, _ = run(tmp_path, defense)
    Tripping.patience = 0
    scored, said = run(tmp_path, defense, "metrics=[{kind: psnr}, {kind: mse}]")
    assert Tripping.patience == 0, "a step of training was made"
    Tripping.patience = None
    assert said == ["none, seed 0", "trip, seed 0"]
    assert [outcome.scores["psnr"] for outcome in scored.outcomes] == [
        outcome.scores["psnr"] for outcome in first.outcomes
    ]


def test_other_images_under_the_same_scenario_are_another_run(tmp_path: Path) -> None:
    def folder(*levels: int) -> None:
        for label in range(2):
            place = tmp_path / "images" / str(label)
            place.mkdir(parents=True, exist_ok=True)
            for number in range(60):
                rng = Seeds(levels[label])("image", number)
                Image.fromarray((torch.rand(8, 8, generator=rng) * 255).byte().numpy()).save(place / f"{number}.png")

    images = [f"dataset={{kind: image_folder, root: {json.dumps(str(tmp_path / 'images'))}, image_size: 8}}"]
    folder(1, 2)
    first, _ = run(tmp_path / "run", *images)
    assert run(tmp_path / "run", *images)[1][0].endswith("finished before")
    folder(3, 4)
    second, said = run(tmp_path / "run", *images)
    assert said[0] == "none, seed 0"
    assert numbers(first) != numbers(second)


def tripping(moment: str) -> list[str]:
    return [f"defenses={{trip: {{kind: '{HERE}:Tripping', at: {moment}}}}}", "optimizer={kind: adam, state: keep}"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcomes]:
    root = tmp_path_factory.mktemp("undisturbed")
    return root, run(root, *tripping("after_step"))[0]


@pytest.mark.parametrize(
    ("moment", "patience", "blamed"),
    [
        # 60 rows at each of two clients, batches of 16: 4 steps each; the 11th is in round 2.
        ("after_step", 10, "client 0, round 2"),
        ("augment", 1, "client 1, round 1"),
        ("warm_start", 0, "defense trip"),
        ("deploy", 2, "defense trip"),
    ],
)
def test_an_interrupted_cell_goes_on_to_the_same_numbers(
    moment: str, patience: int, blamed: str, undisturbed: tuple[Path, Outcomes], tmp_path: Path
) -> None:
    root, whole = undisturbed
    settings = tripping(moment)
    Tripping.patience = patience
    line = failure(tmp_path, *settings)
    assert line.startswith(f"{blamed}: ") and "RuntimeError: tripped over a wire" in line
    assert [cell.name for cell in RunFolder(tmp_path).cells() if cell.finished] == ["none-seed-0"]
    resumed, said = run(tmp_path, *settings)
    assert said == ["none, seed 0: finished before", "trip, seed 0"]
    assert numbers(resumed) == numbers(whole)
    assert standing(tmp_path, "trip-seed-0") == standing(root, "trip-seed-0")


def test_training_goes_on_from_the_last_round(tmp_path: Path) -> None:
    defense = f"defenses={{trip: {{kind: '{HERE}:Tripping', at: after_step}}}}"
    Tripping.patience = 20
    failure(tmp_path, defense)
    Tripping.patience = 100
    run(tmp_path, defense)
    assert 100 - (Tripping.patience or 0) == 8, "two of three rounds of eight steps were on disk"
    Tripping.patience = None


def test_an_attack_that_fails_keeps_the_training(tmp_path: Path) -> None:
    attacks = f"attacks=[{{kind: linear_inverse}}, {{kind: '{HERE}:Failing'}}]"

    def fail(leak: Leak) -> Tensor:
        raise KeyError("no\nsuch thing")

    Failing.act = fail
    line = failure(tmp_path, attacks)
    assert line.startswith(f"attack {HERE}:Failing on none: failed (KeyError: ")
    before = standing(tmp_path, "none-seed-0")
    part = tmp_path / "none-seed-0" / "attacks" / "0-linear_inverse" / "outcomes.json"
    told = read_outcomes(part).outcomes[0]
    Failing.act = lambda leak: leak.auxiliary.images.mean(dim=0).expand(16, *leak.image_shape)
    outcomes, _ = run(tmp_path, attacks)
    assert len(outcomes.outcomes) == 4 and standing(tmp_path, "none-seed-0") == before
    assert outcomes.outcomes[0] == told, "what the first attack found was not computed again"
    assert not part.parent.parent.exists()


def test_parts_of_another_scenario_are_not_taken(tmp_path: Path) -> None:
    attacks = f"attacks=[{{kind: linear_inverse}}, {{kind: '{HERE}:Failing'}}]"
    Failing.act = lambda leak: torch.ones(())[5]
    failure(tmp_path, attacks)
    Failing.act = lambda leak: leak.auxiliary.images.mean(dim=0).expand(16, *leak.image_shape)
    outcomes, _ = run(tmp_path, attacks, "metrics=[{kind: psnr}, {kind: mse}]")
    assert all(set(outcome.scores) == {"psnr", "mse"} for outcome in outcomes.outcomes)


def test_a_cell_whose_parts_are_all_there_is_joined_without_work(tmp_path: Path) -> None:
    attacks = "attacks=[{kind: linear_inverse}, {kind: nearest_neighbour}]"
    expected, _ = run(tmp_path / "expected", attacks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CellFolder, "join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "found", attacks)
    found, said = run(tmp_path / "found", attacks)
    assert said == ["noise, seed 0"] and numbers(found) == numbers(expected)


# What fails, and how it is told.


@pytest.mark.parametrize(
    "act",
    [
        lambda leak: torch.full((16, *leak.image_shape), torch.nan),
        lambda leak: torch.tensor(0.5),
    ],
    ids=["not a number", "one number"],
)
def test_what_is_no_image_is_kept_as_an_invalid_outcome_without_a_score(
    act: Callable[[Leak], Tensor], tmp_path: Path
) -> None:
    Failing.act = act
    metrics = "metrics=[{kind: psnr}, {kind: ssim}, {kind: fid}, {kind: reidentification, by: features}]"
    outcomes, _ = run(
        tmp_path, f"attacks=[{{kind: '{HERE}:Failing'}}, {{kind: linear_inverse}}]", metrics, "defenses={}"
    )
    broken, sound = outcomes.outcomes
    assert not broken.valid and not broken.controls["images"].ok and broken.reason.startswith("images ")
    assert all(score.mean is None and score.low is None for score in broken.scores.values())
    assert sound.valid, sound.reason
    write_report(tmp_path)
    assert "~~" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("act", [lambda leak: None, lambda leak: [1]], ids=["nothing", "a list"])
def test_what_is_no_tensor_is_told_in_one_line(act: Callable[[Leak], Any], tmp_path: Path) -> None:
    Failing.act = act
    assert "Failing on none: failed (" in failure(tmp_path, f"attacks=[{{kind: '{HERE}:Failing'}}]")


def test_a_metric_that_fails_is_named(tmp_path: Path) -> None:
    metric = f"{HERE}:BrokenMetric"
    line = failure(tmp_path, f"metrics=[{{kind: psnr}}, {{kind: '{metric}'}}]")
    assert line.startswith(f"metric {metric}: failed (ZeroDivisionError: no one to divide by)")


def test_a_headline_without_a_number_is_refused_and_any_other_metric_without_one_is_left_blank(tmp_path: Path) -> None:
    metrics = f"metrics=[{{kind: psnr}}, {{kind: '{HERE}:BrokenMetric', gives: nan}}]"
    assert "gives the mean image no finite score" in failure(tmp_path / "a", metrics, f"headline='{HERE}:BrokenMetric'")
    outcomes, _ = run(tmp_path / "b", metrics)
    assert all(outcome.scores[f"{HERE}:BrokenMetric"].mean is None for outcome in outcomes.outcomes)


def test_a_training_on_other_public_files_is_another_training(tmp_path: Path) -> None:
    learner = "defenses={learner: {kind: transfer_learning, freeze: rows, epochs: 2}}"
    scenario = tiny.scenario(learner, "public={dataset: {kind: phantoms, image_size: 8}, count: 40}")

    def trained(seed: int, folder: Path) -> list[object]:
        """With public files of this content, which the scenario does not tell."""
        pixels = torch.rand((60, 1, 8, 8), generator=Generator().manual_seed(seed))
        files = Images(pixels, torch.arange(60) % 2, torch.arange(60), ("a", "b"))
        lab = Laboratory(scenario, [scenario.dataset.load(), files], scenario.engine)
        settings = json.dumps(scenario.dump())
        assignment = Assignment(scenario=settings, cell="learner-seed-0", folder=folder, sources=lab.sources)
        found = lab.do(assignment, {})
        return [bits(load(found[name])) for name in sorted(found) if name.endswith(".safetensors")]

    kept = trained(0, tmp_path / "one")
    assert trained(1, tmp_path / "one") == trained(1, tmp_path / "another") != kept


# What an adversary is handed, and what is done with it.


def test_the_worse_its_images_the_less_an_adversary_rebuilds(tmp_path: Path) -> None:
    own = ("", ", auxiliary: {count: 24}", ", auxiliary: {dataset: {kind: phantoms, count: 400, image_size: 8}}")
    threats = f"threats=[{', '.join(f'{{kind: curious_server{words}}}' for words in own)}]"
    settings = (
        "dataset.limit=900",
        "defenses={}",
        "attacks=[{kind: linear_inverse}, {kind: nearest_neighbour}]",
        "targets.count=60",
    )
    both, _ = run(tmp_path / "all", *settings, threats)
    alone, _ = run(tmp_path / "ideal", *settings)
    ideal, few, strange = (
        {outcome.attack: outcome for outcome in both.outcomes if outcome.threat == name}
        for name in dict.fromkeys(outcome.threat for outcome in both.outcomes)
    )
    assert [outcome.scores for outcome in ideal.values()] == [outcome.scores for outcome in alone.outcomes]
    for attack, best in ideal.items():
        reached = [one[attack].scores["psnr"].mean or 0 for one in (few, strange)]
        assert max(reached) < (best.scores["psnr"].mean or 0)
        assert best.valid
    anchors = [one["linear_inverse"].anchors["mean_image"]["psnr"] or 0 for one in (ideal, few, strange)]
    assert anchors[0] > anchors[1] > anchors[2], "what there is to beat is the mean of its own images"
    assert few["linear_inverse"].valid and strange["linear_inverse"].valid
    assert len({outcome.training_seconds for outcome in both.outcomes}) == 1, "one victim for all of them"


def test_a_leak_shares_no_memory_with_any_party(tmp_path: Path) -> None:
    Average.told.clear()
    settings = [f"attacks=[{{kind: '{HERE}:Average', leak: training}}, {{kind: '{HERE}:Average'}}]", "defenses={}"]
    known: list[Any] = []

    def remembered(*arguments: Any) -> Any:
        known.append(gather(*arguments))
        return known[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory, "gather", remembered)
        run(tmp_path, *settings)
    (parties,) = known
    holdings = (*parties.data.holdings, *parties.data.visitors)
    private = [tensor for holding in holdings for tensor in vars(holding).values()]
    private += [tensor for images in (parties.images, parties.data.test) for tensor in vars(images).values()]
    owned = {tensor.untyped_storage().data_ptr() for tensor in private if isinstance(tensor, Tensor)}
    handed = [tensor for leak in Average.told for tensor in tensors_of(leak)]
    assert len(Average.told) == 4 and len(handed) > 40 and len(owned) > 10
    assert not owned & {tensor.untyped_storage().data_ptr() for tensor in handed if tensor.numel()}


def test_segments_that_are_never_shared_are_attacked_each_by_itself_and_scored_together(tmp_path: Path) -> None:
    Average.told.clear()
    protocol = "protocol={kind: parallel, rounds: 3, batch_size: 16, sync: never}"
    attacks = f"attacks=[{{kind: '{HERE}:Average'}}, {{kind: linear_inverse}}]"
    outcomes, _ = run(tmp_path, protocol, attacks, "defenses={}")
    both, inverse = outcomes.outcomes
    seen = [leak.smashed for leak in Average.told]
    # Once as it is, and once permuted, for each of the two clients; nobody holds their weights.
    assert len(seen) == 4 and all(leak.client_weights is None for leak in Average.told)
    assert sum(len(one) for one in seen if one is not None) == 2 * both.targets == 2 * 16
    assert inverse.valid, inverse.reason


def test_threats_rounds_and_leaks_are_all_told_apart(tmp_path: Path) -> None:
    outcomes, _ = run(
        tmp_path,
        "threats=[{kind: split_network}, {kind: curious_server, knows_defense: algorithm}]",
        "attacks=[{kind: linear_inverse, rounds: [1, 3]}, {kind: linear_inverse, leak: training, rounds: [2]}]",
    )
    keys = [(each.defense, each.threat, each.attack, each.leak, each.round) for each in outcomes.outcomes]
    assert len(set(keys)) == len(keys) == 2 * 2 * 3
    assert {(each.leak, each.round) for each in outcomes.outcomes} == {
        ("inference", 1),
        ("inference", 3),
        ("training", 2),
    }
    assert {each.knows_defense for each in outcomes.outcomes} == {"parameters", "algorithm"}
    by_round = {each.round: each.scores["psnr"].mean for each in outcomes.outcomes[:2]}
    assert by_round[1] != by_round[3]


def test_an_adversary_who_does_not_know_of_the_noise_is_handed_clean_pairs_but_noisy_targets(tmp_path: Path) -> None:
    Average.told.clear()
    outcomes, _ = run(
        tmp_path,
        "threats=[{kind: curious_server, knows_defense: 'no'}, {kind: curious_server, knows_defense: algorithm}]",
        f"attacks=[{{kind: '{HERE}:Average'}}]",
        "defenses.noise.std=100",
    )
    unaware, aware = (outcome for outcome in outcomes.outcomes if outcome.defense == "noise")
    assert unaware.controls["defense_acts"].ok and aware.controls["defense_acts"].ok
    noisy = [leak for leak in Average.told if leak.smashed is not None and float(leak.smashed.std()) > 50]
    assert len(noisy) == 2 and all(leak.defense is None for leak in noisy)
    pairs = [leak.auxiliary_pairs.smashed for leak in noisy if leak.auxiliary_pairs is not None]
    assert float(pairs[0].std()) < 10 and float(pairs[1].std()) > 50


def only(outcomes: Outcomes, defense: str) -> Outcome:
    (found,) = (outcome for outcome in outcomes.outcomes if outcome.defense == defense)
    return found


def test_the_undefended_row_leaks_and_noise_stops_it(finished: tuple[Path, Outcomes]) -> None:
    undefended, noise = only(finished[1], "none"), only(finished[1], "noise")
    assert undefended.valid and noise.valid, (undefended.reason, noise.reason)
    worst, best = undefended.scores["psnr"], noise.scores["psnr"]
    assert worst.low is not None and best.high is not None and worst.low > best.high + 3
    assert set(undefended.controls) == {"images", "beats_mean_image", "permuted_leak", "victim_unchanged"}
    assert set(noise.controls) == {"images", "passed_undefended", "not_broken", "defense_acts", "victim_unchanged"}


def test_what_failed_undefended_is_not_believed_under_a_defense_also_when_that_row_was_finished(tmp_path: Path) -> None:
    hopeless = f"attacks=[{{kind: '{HERE}:Average'}}]"
    first, _ = run(tmp_path, hopeless)
    second, said = run(tmp_path, hopeless, "defenses.noise.std=0.25")
    assert said == ["none, seed 0: finished before", "noise, seed 0"]
    for outcomes in (first, second):
        assert not only(outcomes, "none").controls["beats_mean_image"].ok
        assert not only(outcomes, "noise").controls["passed_undefended"].ok


def test_test_rows_can_be_targets_and_all_of_them(tmp_path: Path) -> None:
    outcomes, _ = run(tmp_path, "targets={from: test, count: all}", "defenses={}")
    (outcome,) = outcomes.outcomes
    assert outcome.targets == 45 and outcome.valid, outcome.reason


def test_what_an_attack_writes_into_its_leak_changes_no_other_attack(tmp_path: Path) -> None:
    def act(leak: Leak) -> Tensor:
        assert leak.smashed is not None and leak.auxiliary_pairs is not None
        guess = leak.auxiliary.images.mean(dim=0).expand(16, *leak.image_shape).clone()
        for tensor in (leak.smashed, leak.auxiliary_pairs.smashed, leak.auxiliary.images):
            tensor.zero_()
        return guess

    Failing.act = act
    alone, _ = run(tmp_path / "alone", "attacks=[{kind: linear_inverse}]")
    after, _ = run(tmp_path / "after", f"attacks=[{{kind: '{HERE}:Failing'}}, {{kind: linear_inverse}}]")
    assert numbers(alone) == [one for one in numbers(after) if one["attack"] == "linear_inverse"]


def test_all_metrics_in_double_precision(tmp_path: Path) -> None:
    outcomes, _ = run(
        tmp_path,
        "precision=float64",
        "metrics=[{kind: psnr}, {kind: ssim}, {kind: psnr_affine}, {kind: ssim_affine}, {kind: mse}, {kind: fid},"
        " {kind: reidentification}, {kind: reidentification, by: features}]",
        "headline=reidentification_pixels",
        "defenses={both: [{kind: low_rank, rank: 4}, {kind: gaussian_noise, std: 0.1}]}",
    )
    undefended = only(outcomes, "none")
    names = {"psnr", "ssim", "psnr_affine", "ssim_affine", "mse", "fid_evaluator"}
    names |= {"reidentification_pixels", "reidentification_features"}
    assert set(undefended.scores) == names == set(undefended.anchors["mean_image"])
    assert all(score.mean is not None and isfinite(score.mean) for score in undefended.scores.values())
    assert undefended.anchors["mean_image"]["reidentification_pixels"] == pytest.approx(1 / 16)
    assert undefended.scores["reidentification_pixels"].mean == 1
    assert undefended.bytes_per_step.down == 15 * 8 * 8 * 8, "an activation has eight bytes"
    with safe_open(tmp_path / "none-seed-0" / "checkpoint" / "standing-1.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float64}  # noqa: SIM118
