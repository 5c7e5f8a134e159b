import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from fedsplit import document
from fedsplit.attacks.base import Attack
from fedsplit.checks import check_cuts
from fedsplit.component import Trust
from fedsplit.engines.inline import Inline
from fedsplit.errors import FedsplitError, ScenarioError
from fedsplit.models.convolutional import Convolutional
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.reading import load, parse
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.scenario import Cell, Scenario
from tests import tiny

SHIPPED = sorted((Path(__file__).parents[1] / "scenarios").rglob("*.yaml"))
LEAST: dict[str, Any] = {
    "name": "least",
    "dataset": {"kind": "digits"},
    "model": {"kind": "linear", "width": 8},
    "cut": "rows",
}


class Labelled(Attack):
    """Looks at the labels that come with training steps."""

    needs: ClassVar = frozenset({Asset.LABELS})

    def reconstruct(self, leak: Leak, rng: torch.Generator) -> Reconstruction:
        raise NotImplementedError


class StepByStep(SplitFedV1):
    """A protocol that crosses the cut at every step, as far as an engine can tell."""

    grain: ClassVar[Literal["round", "step"]] = "step"


class WholeRounds(Inline):
    """An engine that can run whole local rounds only."""

    grains = frozenset({"round"})


def refusal(raw: dict[str, Any], kind: type[FedsplitError] = ScenarioError) -> str:
    with pytest.raises(FedsplitError) as caught:
        check_cuts(parse(raw, Trust()), (1, 8, 8), 10)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert caught.value.remedy or "; " in str(caught.value)
    return str(caught.value)


def test_everything_but_name_data_model_and_cut_has_a_default() -> None:
    scenario = parse(LEAST, Trust())
    assert scenario.seeds == (0,) and scenario.threads == 1
    assert (scenario.precision, scenario.device, scenario.dtype) == ("float32", "cpu", torch.float32)
    assert scenario.partition.kind == "dirichlet" and scenario.partition.clients == 10
    assert scenario.protocol.kind == "splitfed_v1" and scenario.optimizer.kind == "adam"
    assert [name for name, _ in scenario.rows] == ["none"]
    assert [threat.kind for threat in scenario.threats] == ["curious_server"]
    assert [attack.kind for attack in scenario.attacks] == ["linear_inverse", "inverse_network"]
    assert [metric.name for metric in scenario.metrics] == ["psnr", "ssim"]
    assert scenario.headline == "ssim" and scenario.engine.kind == "ray"
    assert scenario.targets.source == "private" and scenario.targets.count == 400


@pytest.mark.parametrize("key", LEAST)
def test_a_key_without_default_must_be_there(key: str) -> None:
    line = refusal({name: value for name, value in LEAST.items() if name != key})
    assert line.startswith(f"{key}: ") and "add this key" in line


def test_parsing_changes_nothing_that_was_handed_in() -> None:
    raw = tiny.raw()
    parse(raw, Trust())
    assert raw == tiny.DIGITS


REFUSED = (
    # wrong kinds
    ("dataset.kind=digit", ("dataset: ", "did you mean 'digits'?")),
    ("model.kind=lenett", ("model: ", "did you mean 'lenet'?")),
    ("protocol.kind=splitfed_v1x", ("protocol: ", "splitfed_v1")),
    ("engine={kind: inlin}", ("engine: ", "did you mean 'inline'?")),
    ("attacks.0.kind=linear_invers", ("attacks.0: ", "did you mean 'linear_inverse'?")),
    ("metrics.0.kind=snr", ("metrics.0: ", "did you mean 'psnr'?")),
    ("threats=[{kind: curious}]", ("threats.0: ", "no threat of this kind")),
    ("defenses.noise.kind=gaussian", ("defenses.noise: ", "no defense of this kind", "gaussian_noise")),
    ("partition.kind=equals", ("partition: ", "'equal'")),
    ("optimizer={kind: adamw}", ("optimizer: ", "'adam'")),
    ("model=linear", ("model: 'linear'", "must be a mapping with a kind", "{kind: ...")),
    ("defenses.noise={std: 1}", ("defenses.noise: ", "must be a mapping with a kind")),
    ("attacks=linear_inverse", ("attacks: 'linear_inverse'",)),
    # unknown keys
    ("depth=3", ("depth: 3: ", "mend its spelling")),
    ("model.depth=3", ("model.depth: 3: ", "mend its spelling")),
    ("roles.privat=0.2", ("roles.privat: 0.2: ",)),
    ("partition.alpha=0.2", ("partition.alpha: 0.2: ",)),
    ("targets.number=3", ("targets.number: 3: ",)),
    ("attacks.0.epochs=3", ("attacks.0.epochs: 3: ",)),
    ("defenses.noise.scale=3", ("defenses.noise.scale: 3: ",)),
    # wrong types
    ("name=3", ("name: 3: ", "string")),
    ("seeds=zero", ("seeds: 'zero': ",)),
    ("seeds=[0, one]", ("seeds.1: 'one': ",)),
    ("model.width=wide", ("model.width: 'wide': ", "integer")),
    ("protocol.rounds='3'", ("protocol.rounds: '3': ", "integer")),
    ("protocol.rounds=true", ("protocol.rounds: True: ", "integer")),
    ("defenses=[]", ("defenses: []: ",)),
    ("defenses.noise.std=", ("defenses.noise.std: None: ",)),
    ("cut=", ("cut: None: ",)),
    ("targets.count=some", ("targets.count: 'some': ", "'all'")),
    ("headline=[psnr]", ("headline: ['psnr']: ",)),
    # out of range
    ("name=a/b", ("name: 'a/b': ",)),
    ("seeds=[]", ("seeds: []: ",)),
    ("seeds=[-1]", ("seeds.0: -1: ",)),
    ("threads=0", ("threads: 0: ",)),
    ("threads=1000000000", ("threads: 1000000000: ",)),
    ("model.width=0", ("model.width: 0: ",)),
    ("protocol.batch_size=0", ("protocol.batch_size: 0: ",)),
    ("optimizer={kind: adam, learning_rate: 0}", ("optimizer.learning_rate: 0: ",)),
    ("partition.clients=0", ("partition.clients: 0: ",)),
    ("roles.private=1.5", ("roles.private: 1.5: ",)),
    ("roles.private=0.9", ("roles: ", "add up to 1.5")),
    ("targets.count=0", ("targets.count: 0: ",)),
    ("defenses.noise.std=-1", ("defenses.noise.std: -1: ",)),
    ("defenses.both=[{kind: low_rank, rank: 0}]", ("defenses.both.0.rank: 0: ",)),
    ("precision=float16", ("precision: 'float16': ",)),
    ("device=tpu", ("device: 'tpu': ",)),
    ("threats=[{kind: curious_server, auxiliary: {count: 3}}]", ("threats.0.auxiliary.count: 3: ",)),
    (
        "threats=[{kind: curious_server, auxiliary: {dataset: {kind: mnits}}}]",
        ("threats.0.auxiliary.dataset: ", "'mnist'"),
    ),
    (
        "threats=[{kind: curious_server, auxiliary: {dataset: {kind: mnist, limit: 0}}}]",
        ("threats.0.auxiliary.dataset.limit: 0: ",),
    ),
    ("public={count: 1}", ("public.count: 1: ",)),
    ("public={dataset: {kind: mnits}}", ("public.dataset: ", "'mnist'")),
    ("public={dataset: {kind: mnist, limit: 0}}", ("public.dataset.limit: 0: ",)),
    ("public={without: [3]}", ("public.without: ",)),
    # missing
    ("defenses.noise={kind: gaussian_noise}", ("defenses.noise.std: ", "add this key")),
    ("defenses.both=[{kind: none}, {kind: low_rank}]", ("defenses.both.1.rank: ", "add this key")),
    ("threats=[]", ("threats: []: ",)),
    ("attacks=[]", ("attacks: []: ",)),
    ("metrics=[]", ("metrics: []: ",)),
    # rows
    ("defenses.noise.std={sweep: [1, -2]}", ("defenses.noise std=-2.std: -2: ",)),
    ("defenses.noise={sweep: [{kind: none}, {kind: nope}]}", ("defenses.noise value={'kind': 'nope'}: ",)),
    ("defenses.noise.std={sweep: [1, 1]}", ("defenses.noise std=1: ", "two rows")),
    ("defenses.none={kind: gaussian_noise, std: 1}", ("defenses.none: 'gaussian_noise': is defended", "another name")),
    ("defenses.noise.active=never", ("defenses.noise.active: ",)),
    ("defenses.rank={kind: low_rank, rank: 2, active: training}", ("defenses.rank: ", "`active` has no effect")),
    # cross-checks
    ("seeds=[1, 2, 1]", ("seeds: (1, 2, 1): names a seed twice",)),
    ("headline=ssim", ("headline: 'ssim': is none of the metrics", "use one of psnr")),
    ("metrics=[{kind: psnr}, {kind: psnr}]", ("metrics: ['psnr', 'psnr']: names a metric twice",)),
    ("attacks.0.rounds=[1, 4]", ("attacks.0.rounds: 4: is after the last round", "protocol.rounds = 3")),
    ("attacks.0.rounds=[1, 1]", ("attacks.0.rounds: (1, 1): names a round twice",)),
    # cuts
    ("cut=nope", ("cut: 'nope': no block of this name", "use one of rows, hidden", "row 'none'")),
    ("cut=logits", ("cut: 'logits': leaves the server no block",)),
    ("head=hidden", ("head: 'hidden': is no block after the server's first", "use one of logits", "row 'none'")),
    ("head=rows", ("head: 'rows': is no block after the server's first",)),
    ("protocol.drop_out=1", ("protocol.drop_out: 1",)),
    ("protocol={kind: parallel, sync: sometimes}", ("protocol.sync: 'sometimes'", "'step'")),
    ("model.width=1000000000000", ("model: 'linear': cannot be built", "row 'none'")),
    (
        "defenses.noise={kind: low_rank, rank: 1000000000000000000000000000000}",
        ("model: 'linear': cannot be built", "row 'noise'"),
    ),
)


@pytest.mark.parametrize(("assignment", "fragments"), REFUSED, ids=[assignment for assignment, _ in REFUSED])
def test_refused_in_one_line_with_its_key_path(assignment: str, fragments: tuple[str, ...]) -> None:
    line = refusal(tiny.raw(assignment))
    assert line.startswith(fragments[0])
    for fragment in fragments:
        assert fragment in line


def test_what_an_attack_lacks_is_said_threat_by_threat() -> None:
    kind = "tests.test_scenario:Labelled"
    threats = "threats=[{kind: eavesdropper}, {kind: split_network}]"
    line = refusal(tiny.raw(threats, f"attacks=[{{kind: '{kind}', leak: training}}]"))
    assert line.startswith(f"attacks.0: '{kind}': needs labels, but in the training leak")
    assert "eavesdropper lacks labels and split_network lacks labels" in line
    granted = tiny.scenario("threats=[{kind: curious_server}]", f"attacks=[{{kind: '{kind}', leak: training}}]")
    assert len(granted.duels) == 1


def test_what_only_crosses_at_training_is_not_in_an_inference_leak() -> None:
    line = refusal(tiny.raw("attacks=[{kind: 'tests.test_scenario:Labelled'}]"))
    assert "in the inference leak curious_server lacks labels" in line


def test_an_attack_meets_only_the_threats_that_feed_it() -> None:
    scenario = tiny.scenario(
        "threats=[{kind: split_network}, {kind: curious_server}, {kind: curious_server, aggregates: false}]",
        "attacks=[{kind: linear_inverse, rounds: [1, 3]}, {kind: 'tests.test_scenario:Labelled', leak: training}]",
    )
    met = [(duel.threat_name, duel.attack_name.rpartition(":")[2], duel.round) for duel in scenario.duels]
    assert met == [
        *(("split_network", "linear_inverse", number) for number in (1, 3)),
        *(("curious_server", "linear_inverse", number) for number in (1, 3)),
        ("curious_server", "Labelled", 3),
        *(("curious_server (no client weights)", "linear_inverse", number) for number in (1, 3)),
        ("curious_server (no client weights)", "Labelled", 3),
    ]
    recording = scenario.recording(next(scenario.cells))
    assert recording.inference == (1, 3) and recording.training == (3,)


def test_a_relay_between_clients_takes_the_client_segment_out_of_every_reach() -> None:
    weights = ("attacks=[{kind: sparse_inverse}]", "threats=[{kind: curious_server}]")
    line = refusal(tiny.raw(*weights, "protocol.kind=sequential"))
    assert line.startswith("attacks.0: 'sparse_inverse': needs client_weights, smashed, but in the inference leak")
    assert "curious_server lacks client_weights" in line
    assert tiny.scenario(*weights, "protocol={kind: sequential, relay: server}").duels


def test_what_weights_alone_would_grant_goes_with_them() -> None:
    threats = "threats=[{kind: curious_server, queries: false}]"
    assert tiny.scenario(threats).duels
    assert "lacks auxiliary_pairs" in refusal(tiny.raw(threats, "protocol.kind=sequential"))


def test_behind_the_cut_an_attack_looks_where_its_threat_does() -> None:
    threats = "threats=[{kind: curious_server}, {kind: end_to_end}, {kind: confidences}]"
    kinds = ("kind: linear_inverse, rounds: [1, 2]", "kind: sparse_inverse", "kind: linear_inverse, leak: training")
    attacks = f"attacks=[{', '.join(f'{{{kind}}}' for kind in kinds)}]"
    scenario = tiny.scenario(threats, attacks)
    assert [(duel.threat_name, duel.attack_name, duel.leak, duel.round) for duel in scenario.duels] == [
        ("curious_server", "linear_inverse", "inference", 1),
        ("curious_server", "linear_inverse", "inference", 2),
        ("curious_server", "sparse_inverse", "inference", 3),
        ("curious_server", "linear_inverse-2", "training", 3),
        ("end_to_end", "linear_inverse", "hidden", 1),
        ("end_to_end", "linear_inverse", "hidden", 2),
        ("confidences", "linear_inverse", "answers", 1),
        ("confidences", "linear_inverse", "answers", 2),
    ]
    recording = scenario.recording(next(scenario.cells))
    assert (recording.inference, recording.training) == ((1, 2, 3), (3,))


def test_a_threat_is_called_after_what_its_images_lack() -> None:
    own = ("", ", auxiliary: {count: 40}", ", auxiliary: {without: [3], dataset: {kind: phantoms}}", ", auxiliary: {}")
    scenario = tiny.scenario(f"threats=[{', '.join(f'{{kind: curious_server{words}}}' for words in own)}]")
    assert [duel.threat_name for duel in scenario.duels] == [
        "curious_server",
        "curious_server (40 images)",
        "curious_server (knows phantoms; without 3)",
        "curious_server-2",
    ]
    assert [dataset.kind for dataset in scenario.datasets] == ["digits", "phantoms"]


def test_the_attacked_data_set_is_no_other_one() -> None:
    other = "threats=[{kind: curious_server, auxiliary: {dataset: {kind: digits, image_size: 16}}}]"
    line = refusal(tiny.raw(other))
    assert line.startswith("threats.0.auxiliary.dataset: 'digits': is the data set that is attacked")
    assert tiny.scenario(other, "dataset={kind: phantoms}").others[0].kind == "digits"


def test_public_images_are_of_another_data_set_than_the_clients() -> None:
    line = refusal(tiny.raw("public={dataset: {kind: digits, limit: 50}}"))
    assert line.startswith("public.dataset: 'digits': is the data set that is attacked")
    threats = "threats=[{kind: curious_server, auxiliary: {dataset: {kind: phantoms}}}]"
    scenario = tiny.scenario(threats, "public.dataset={kind: phantoms, limit: 50}")
    assert [dataset.limit for dataset in scenario.datasets] == [300, 50, None]


@pytest.mark.parametrize(
    "row",
    [
        "{kind: transfer_learning, freeze: rows}",
        "[{kind: none}, {kind: transfer_learning, freeze: 1}]",
        "{kind: sca, features: [3], first_dictionary: patches}",
        "{kind: sparse_standard, features: 3, first_dictionary: pretrained}",
    ],
)
def test_who_learns_from_public_images_is_refused_where_there_are_none(row: str) -> None:
    line = refusal(tiny.raw(f"defenses.learner={row}"))
    assert line.startswith(
        "roles.public: 0.0: leaves no public image, and row 'learner' learns from them; raise it, or"
    )
    assert tiny.scenario(f"defenses.learner={row}", "public.dataset={kind: phantoms}")
    assert tiny.scenario(f"defenses.learner={row}", "roles.public=0.1", "roles.auxiliary=0.25")


@pytest.mark.parametrize("attack", ["{kind: likelihood}", "{kind: linear_inverse, leak: training}"])
def test_who_looks_at_the_deployed_model_has_neither_weights_nor_training_steps(attack: str) -> None:
    line = refusal(tiny.raw(f"attacks=[{attack}]", "threats=[{kind: end_to_end}]"))
    assert "leak end_to_end lacks" in line


def test_labels_that_stay_home_feed_no_attack() -> None:
    kind = "tests.test_scenario:Labelled"
    raw = tiny.raw(f"attacks=[{{kind: '{kind}', leak: training}}]", "head=logits", "threats=[{kind: curious_server}]")
    assert "in the training leak curious_server lacks labels" in refusal(raw)


def test_training_rounds_hold_no_test_rows() -> None:
    line = refusal(tiny.raw("attacks.0.leak=training", "targets.from=test"))
    assert line.startswith("attacks.0.leak: 'training': test rows are never trained on")


@pytest.mark.parametrize("metric", ["{kind: fid}", "{kind: reidentification, by: features}"])
def test_an_evaluated_metric_needs_evaluation_rows(metric: str) -> None:
    line = refusal(tiny.raw(f"metrics=[{{kind: psnr}}, {metric}]", "roles.evaluation=0"))
    assert line.startswith("metrics.1: ") and "roles.evaluation" in line


def test_a_metric_of_whole_sets_cannot_rank_attacks() -> None:
    line = refusal(tiny.raw("metrics=[{kind: fid}]", "headline=fid_evaluator"))
    assert line.startswith("headline: 'fid_evaluator': scores a whole set")


def test_a_file_name_that_no_file_can_have_is_refused() -> None:
    assert "cannot be looked at" in refusal(tiny.raw(f"metrics=[{{kind: fid, weights: {'x' * 5000}}}]"))


def test_an_engine_must_be_able_to_run_the_protocol() -> None:
    protocol = "protocol.kind=tests.test_scenario:StepByStep"
    line = refusal(tiny.raw(protocol, "engine={kind: 'tests.test_scenario:WholeRounds'}"))
    assert line.startswith("engine.kind: 'tests.test_scenario:WholeRounds': cannot run")
    assert "crosses the cut at every step" in line
    assert tiny.scenario(protocol, "engine={kind: inline}").protocol.grain == "step"


@pytest.mark.parametrize(("devices", "device"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1"), (2, "cuda:99999999999")])
def test_a_device_must_be_there(devices: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert refusal(tiny.raw(f"device={device}")).startswith(f"device: '{device}': is not to be had here")
    if devices:
        assert tiny.scenario("device=cuda").device == "cuda"


@pytest.mark.parametrize("kind", ["ray", "flower"])
def test_an_engine_that_hands_out_gpus_takes_no_number_of_one(kind: str) -> None:
    line = refusal(tiny.raw("device=cuda:0", f"engine={{kind: {kind}}}"))
    assert line.startswith(f"device: 'cuda:0': names one GPU, but engine {kind} hands them out")


@pytest.mark.parametrize("kind", ["ray", "flower"])
def test_clients_on_a_gpu_have_a_share_of_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    settings = ("device=cuda", "protocol={kind: splitfed_v1}")
    line = refusal(tiny.raw(*settings, f"engine={{kind: {kind}}}"))
    assert line.startswith("engine.gpus_per_client: 0: leaves clients that compute on cuda without a GPU; ")
    assert tiny.scenario(*settings, f"engine={{kind: {kind}, gpus_per_client: 0.5}}").engine.gpu_share == 0.5


def test_a_cut_that_only_one_row_cannot_have_names_that_row() -> None:
    raw = tiny.raw("model={kind: lenet}", "cut=relu1", "defenses.deep={kind: low_rank, rank: 1000000000000000000}")
    assert "row 'deep'" in refusal(raw)


def test_a_sweep_is_a_row_per_value() -> None:
    swept = "defenses.mixed=[{kind: low_rank, rank: {sweep: [2, 4]}}, {kind: laplace_noise, scale: {sweep: [0.1, 1]}}]"
    names = [name for name, _ in tiny.scenario(swept, "defenses.noise.std={sweep: [0.25, 1e-3]}").rows]
    mixed = [f"mixed rank={rank} scale={scale}" for rank in (2, 4) for scale in (0.1, 1)]
    assert names == ["none", "noise std=0.25", "noise std=0.001", *mixed]


def test_a_sweep_of_sweeps_stays_within_bounds() -> None:
    values = "{sweep: [" + ", ".join(map(str, range(1, 60))) + "]}"
    member = f"{{kind: gaussian_noise, std: {values}}}"
    line = refusal(tiny.raw(f"defenses.mixed=[{', '.join([member] * 12)}]"))
    assert line.startswith("defenses: ") and "makes too many rows" in line


def test_the_undefended_row_comes_first_even_if_it_is_written_last() -> None:
    assert [name for name, _ in tiny.scenario("defenses={a: {kind: low_rank, rank: 2}, none: {kind: none}}").rows] == [
        "none",
        "a",
    ]


NAMES = ("a b", "a_b", "a/b", "a!#", "a#!", "a  b", "a", "A b", "", "..", "a\nb", "é", "è", "x" * 300, "x" * 301)


def test_no_two_rows_share_a_folder_and_each_name_is_one_folder() -> None:
    folders = [Cell(name, tiny.scenario().defenses["noise"], 0).folder for name in NAMES]
    assert len(set(folders)) == len(NAMES)
    assert all(len(folder.encode()) < 200 and "/" not in folder and "\n" not in folder for folder in folders)
    assert Cell("noise std=0.25", tiny.scenario().defenses["noise"], 3).folder == "noise_std=0.25-seed-3"


def test_cells_go_seed_by_seed() -> None:
    cells = [(cell.seed, cell.row) for cell in tiny.scenario("seeds=[4, 2]").cells]
    assert cells == [(4, "none"), (4, "noise"), (2, "none"), (2, "noise")]


def test_nothing_is_allocated_by_reading() -> None:
    scenario = tiny.scenario("dataset={kind: phantoms, count: 1000000000000}", "partition.clients=1000000000000")
    check_cuts(tiny.scenario("model.width=100000"), (1, 8, 8), 10)
    assert scenario.partition.clients == 10**12


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_what_is_dumped_is_read_back_as_the_same_scenario(path: Path, tmp_path: Path) -> None:
    scenario = load(path)
    (tmp_path / "again.yaml").write_text(document.dump(scenario.dump()))
    assert load(tmp_path / "again.yaml") == scenario


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_smoke_is_small_and_keeps_the_rows(path: Path) -> None:
    smoked = load(path, smoke=True)
    assert [(name, row.kind) for name, row in smoked.rows] == [(name, row.kind) for name, row in load(path).rows]
    assert (smoked.seeds, smoked.protocol.rounds, smoked.engine.kind) == ((0,), 1, "inline")
    assert all(dataset.kind in {"digits", "phantoms"} for dataset in smoked.datasets)


HEAVY = """
defenses:
  sca: {kind: sca, features: [4, 99], lambda: {sweep: [0.1, 0.5]}}
  both: [{kind: poison_preserving, passes: [0, 5, 20]}, {kind: gan_augmentation}]
threats: [{kind: curious_server}, {kind: plug_and_play, auxiliary: {dataset: {kind: fashion_mnist}}}]
attacks: [{kind: plug_and_play, per_class: 6, starts: 7, candidates: 5000}, {kind: inverse_network}]
public: {dataset: {kind: cifar10}}
metrics: [{kind: ssim}, {kind: attack_accuracy}]
"""


def test_smoke_lightens_what_a_file_says_and_what_it_leaves_to_defaults(tmp_path: Path) -> None:
    path = tmp_path / "heavy.yaml"
    path.write_text(document.dump(LEAST) + HEAVY)
    smoked = load(path, smoke=True)
    dumped = smoked.dump()
    probing, network = dumped["attacks"]
    assert probing["per_class"] <= probing["starts"] <= probing["candidates"] <= 50
    assert max(probing["generator"]["steps"], probing["views"], probing["student_samples"], network["epochs"]) <= 50
    rows = dumped["defenses"]
    assert rows["sca lambda=0.1"]["features"][0] == 4 and rows["sca lambda=0.1"]["features"][1] < 99
    assert rows["sca lambda=0.1"]["lambda"] == 0.1 and rows["sca lambda=0.5"]["lambda"] == 0.5
    poison, made = rows["both"]["members"]
    assert poison["passes"][0] == 0 and max(poison["passes"]) <= 2 and made["generator"]["epochs"] == 1
    assert len(set(smoked.datasets)) == 3, "the images of others are other images"


class Stubborn(Attack):
    """Works as much as it says, or not at all."""

    needs: ClassVar = frozenset({Asset.SMASHED})

    steps: Annotated[int, Field(ge=100)] = 100

    def reconstruct(self, leak: Leak, rng: torch.Generator) -> Reconstruction:
        raise NotImplementedError


def test_smoke_leaves_what_cannot_do_with_less(tmp_path: Path) -> None:
    path = tmp_path / "stubborn.yaml"
    path.write_text(document.dump({**LEAST, "attacks": [{"kind": "tests.test_scenario:Stubborn"}]}))
    (attack,) = load(path, smoke=True).attacks
    assert isinstance(attack, Stubborn) and attack.steps == 100


def test_smoke_has_no_wide_layer(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text(
        "name: wide\ndataset: {kind: digits}\ncut: norm2\nmodel: {kind: convolutional, features: [8, 64], hidden: 99}\n"
    )
    assert load(path, smoke=True).model == Convolutional(features=(8, 16), hidden=16)


def test_what_the_file_leaves_out_can_still_be_set_and_smoked(tmp_path: Path) -> None:
    path = tmp_path / "least.yaml"
    path.write_text(document.dump({**LEAST, "dataset": {"kind": "medical_mnist"}}))
    edits = ["protocol.rounds=2", "optimizer.learning_rate=0.5", "partition.clients=3", "attacks.1.epochs=2"]
    scenario = load(path, assignments=edits)
    assert scenario.protocol.rounds == 2 and scenario.partition.clients == 3
    assert '"learning_rate":0.5' in scenario.model_dump_json() and '"epochs":2' in scenario.model_dump_json()
    assert load(path, smoke=True).dataset.shape() == (1, 28, 28)
    assert parse(LEAST, Trust()).protocol.rounds == 5, "one scenario's settings must not become another one's defaults"


# What follows throws garbage at the reader: it may answer with a scenario or one line, and with nothing else.

KINDS = ("digits", "phantoms", "image_folder", "lenet", "linear", "low_rank", "composition", "fid", "inline", "none")
PLUGINS = ("no.such:Thing", "json:JSONDecoder", "json:nothing", "fedsplit.defenses.base:Defense", "os.path:join")
WORDS = ("", "all", "rows", "conv1", "test", "private", "ssim", "~", "\x00", "a\nb", "x" * 5000, *KINDS, *PLUGINS)
NUMBERS = (0, 1, -1, 2, 0.5, 10**12, 10**30, -(10**30), 2**62, 2**63, 1e308, 5e-324, -0.0)
LEAVES = (
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.integers() | st.text(max_size=3)
)
KEYS = st.sampled_from(
    ("kind", "sweep", "members", "from", "count", "rounds", "active", "root", "weights", "noise", "")
)
VALUES = st.recursive(
    LEAVES, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(KEYS, parts, max_size=3), max_leaves=5
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of everything inside."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, Any]:
    raw = document.read(draw(st.sampled_from(SHIPPED)))
    for _ in range(draw(st.integers(1, 3))):
        if not raw:
            break
        holder, key = draw(st.sampled_from(list(places(raw))))
        act = draw(st.sampled_from(("delete", "replace", "insert")))
        if act == "delete":
            del holder[key]
        elif act == "replace":
            holder[key] = draw(VALUES)
        elif isinstance(holder, list):
            holder.insert(key, draw(VALUES))
        else:
            holder[draw(KEYS)] = draw(VALUES)
    return raw


def answered(scenario: Scenario | FedsplitError) -> None:
    if isinstance(scenario, FedsplitError):
        assert "\n" not in str(scenario)
        return
    assert parse(scenario.dump(), Trust()) == scenario


def attempted(raw: dict[str, Any]) -> Scenario | FedsplitError:
    try:
        scenario = parse(raw, Trust())
        check_cuts(scenario, (1, 8, 8), 10)
        return scenario
    except FedsplitError as error:
        return error


@settings(max_examples=250)
@given(mutants())
def test_any_values_are_a_scenario_or_one_line(raw: dict[str, Any]) -> None:
    before = deepcopy(raw)
    answered(attempted(raw))
    assert raw == before


FILES = count()


def read(
    text: str, folder: Path, assignments: tuple[str, ...] = (), *, smoke: bool = False
) -> Scenario | FedsplitError:
    path = folder / f"{next(FILES)}.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    try:
        scenario = load(path, assignments=assignments, smoke=smoke)
        check_cuts(scenario, (1, 8, 8), 10)
        return scenario
    except FedsplitError as error:
        return error
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@st.composite
def spoilt_texts(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SHIPPED)).read_text()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 40)))
        act = draw(st.sampled_from(("cut", "splice", "flip")))
        other = draw(st.integers(0, len(text)))
        spliced = {"cut": "", "splice": text[other : other + 30], "flip": draw(st.text(max_size=3))}[act]
        text = text[:start] + spliced + text[stop:]
    return text.encode(errors="replace").decode()


@settings(max_examples=150)
@given(spoilt_texts(), st.booleans())
def test_any_text_is_a_scenario_or_one_line(folder: Path, text: str, smoke: bool) -> None:
    answered(read(text, folder, smoke=smoke))


PATHS = st.lists(
    st.sampled_from(
        ("protocol", "attacks", "defenses", "rank 4", "dataset", "0", "1", "-1", "kind", "x", "", "rounds")
    ),
    max_size=4,
).map(".".join)
SETTINGS = VALUES.map(json.dumps) | st.text(max_size=8)


@settings(max_examples=150)
@given(st.lists(st.builds("{}={}".format, PATHS, SETTINGS) | st.text(max_size=12), max_size=3), st.booleans())
def test_any_assignments_are_a_scenario_or_one_line(folder: Path, assignments: list[str], smoke: bool) -> None:
    answered(read(SHIPPED[0].read_text(), folder, tuple(assignments), smoke=smoke))


def test_who_serves_is_nobody_with_images_of_its_own() -> None:
    threats = "threats=[{kind: curious_server}, {kind: malicious_server, auxiliary: {count: 40}}]"
    line = refusal(tiny.raw(threats))
    assert line.startswith("threats.1.auxiliary: '40 images': does not reach an active attack")


MALICIOUS = "threats=[{kind: curious_server}, {kind: malicious_server}]"
MAGNET = "{kind: 'tests.active:Magnet'}"
SERVED = "protocol={kind: sequential, rounds: 3}"


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        ((SERVED,), ("attacks.0: ", "is active, but curious_server follows the protocol", "malicious_server")),
        ((MALICIOUS,), ("attacks.0: ", "in splitfed_v1 each has a copy", "use protocol.kind sequential")),
        ((MALICIOUS, SERVED, "attacks.0.rounds=[1, 3]"), ("attacks.0.rounds: (1, 3): ", "leave rounds out")),
    ],
)
def test_what_no_active_attack_can_do_is_refused(assignments: tuple[str, ...], told: tuple[str, ...]) -> None:
    line = refusal(tiny.raw("threats=[{kind: curious_server}]", f"attacks=[{MAGNET}]", *assignments))
    assert line.startswith(told[0]) and all(words in line for words in told[1:])


def test_an_active_attack_has_cells_and_duels_of_its_own() -> None:
    both = tiny.scenario(MALICIOUS, SERVED, f"attacks=[{MAGNET}, {{kind: linear_inverse}}, {MAGNET}]")
    name = "tests.active:Magnet"
    cells = list(both.cells)
    assert [(cell.row, cell.hijacker) for cell in cells[:3]] == [("none", None), ("none", name), ("none", f"{name}-2")]
    assert len(cells) == 6 and len({cell.folder for cell in cells}) == 6
    assert [[(duel.threat_name, duel.attack_name) for duel in both.duels_of(cell)] for cell in cells[:3]] == [
        [("curious_server", "linear_inverse"), ("malicious_server", "linear_inverse")],
        [("malicious_server", name)],
        [("malicious_server", f"{name}-2")],
    ]
    alone = tiny.scenario(MALICIOUS, SERVED, f"attacks=[{MAGNET}]")
    assert [cell.hijacker for cell in alone.cells] == [name, name]
    plans = [both.plan(cell, (1, 8, 8), 10) for cell in cells[:2]]
    assert plans[0].hijacking is None and plans[1].hijacking is not None
    assert type(plans[1]).model_validate_json(plans[1].model_dump_json()) == plans[1]
