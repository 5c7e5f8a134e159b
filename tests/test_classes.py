"""A whole run of an attack on classes: what it is judged by, shown beside, and whose images it learned from."""

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from fedsplit import document
from fedsplit.attacks.base import ClassAttack
from fedsplit.checks import check_cuts
from fedsplit.component import Trust
from fedsplit.errors import FedsplitError
from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.synthesizer import Synthesizer, Tell, nothing
from fedsplit.parties import deal, gather
from fedsplit.reading import parse
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.outcome import Outcome, Outcomes
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.report.page import write_report
from fedsplit.scenario import Scenario
from fedsplit.seeding import Seeds
from fedsplit.simulate import simulate
from fedsplit.trial import _truth  # pyright: ignore[reportPrivateUsage]
from tests import tiny

HERE = "tests.test_classes"
EACH = 8
SMALL = (
    f"{{kind: plug_and_play, generator: {{kind: '{HERE}:Archive'}}, truncation: 1.0, candidates: 300, starts: 12, "
    f"per_class: {EACH}, steps: 4, views: 4, view_area: [0.8, 1.0], student_samples: 300}}"
)
ASSIGNMENTS = (
    "dataset.limit=900",
    "roles={private: 0.35, test: 0.1, auxiliary: 0.25, public: 0.0, evaluation: 0.3}",
    "model.width=32",
    "protocol.rounds=12",
    "defenses={}",
    "threats=[{kind: plug_and_play}]",
    f"attacks=[{SMALL}]",
    "metrics=[{kind: psnr}, {kind: attack_accuracy}, {kind: attack_accuracy, top: 5}, {kind: feature_distance}, "
    "{kind: coverage}, {kind: fid}]",
)


class Album(Synthesizer):
    """Styles say how much of which image is seen; a style drawn at random is mostly one of them."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(latents=len(images), style_width=len(images))
        self.register_buffer("images", images)

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return 6 * latents

    def synthesis(self, styles: Tensor) -> Tensor:
        images = self.get_buffer("images")
        return (styles.softmax(dim=1) @ images.flatten(1)).view(-1, *images.shape[1:])


class Archive(ImageGenerator):
    """Learns images by heart, and keeps all that it was ever shown."""

    shown: ClassVar[list[Tensor]] = []

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        return Album(torch.zeros(1, *shape))

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        Archive.shown.append(images)
        return Album(images).eval()


def run(root: Path, *assignments: str) -> Outcomes:
    return simulate(scenario(*assignments), root, lambda _: None)


def scenario(*assignments: str) -> Scenario:
    raw = tiny.raw(*ASSIGNMENTS)
    for assignment in assignments:
        document.assign(raw, assignment)
    return parse(raw, Trust())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    root = tmp_path_factory.mktemp("classes")
    (outcome,) = run(root).outcomes
    return root, outcome


def test_it_is_judged_as_an_attack_on_classes(finished: tuple[Path, Outcome]) -> None:
    outcome = finished[1]
    assert outcome.valid, outcome.reason
    assert (outcome.level, outcome.leak, outcome.headline, outcome.targets) == (
        "class", "model", "attack_accuracy_top1", 10 * EACH
    )  # fmt: skip
    expected = {"images", "beats_unguided", "permuted_leak", "parameters_moved", "loss_fell", "victim_unchanged"}
    assert set(outcome.controls) == expected
    assert set(outcome.scores) == {
        "attack_accuracy_top1", "attack_accuracy_top5", "feature_distance", "coverage", "fid_evaluator"
    }  # fmt: skip
    assert list(outcome.anchors) == ["unguided", "mean_image", "class_mean_oracle", "real_images_oracle"]


def test_scores_lie_between_what_trivial_and_real_images_score(finished: tuple[Path, Outcome]) -> None:
    outcome = finished[1]
    accuracy = {name: anchor["attack_accuracy_top1"] for name, anchor in outcome.anchors.items()}
    found = outcome.scores["attack_accuracy_top1"].mean
    assert found is not None and found > 0.5
    assert accuracy["mean_image"] == pytest.approx(0.1), "one image is of one class"
    assert (accuracy["unguided"] or 1) < 0.3, "samples are of no class in particular"
    assert outcome.evaluator_accuracy is not None and outcome.evaluator_accuracy > 0.6
    assert (accuracy["real_images_oracle"] or 0) == pytest.approx(outcome.evaluator_accuracy, abs=0.2)
    distance = {name: anchor["feature_distance"] for name, anchor in outcome.anchors.items()}
    assert (distance["real_images_oracle"] or 9) < (distance["mean_image"] or 0)


def test_the_score_tells_about_classes_and_the_control_about_these_classes(finished: tuple[Path, Outcome]) -> None:
    outcome = finished[1]
    score, told = outcome.scores["attack_accuracy_top1"], outcome.controls["beats_unguided"].detail
    found = re.match(r"(.*) \[(.*), (.*)\] beats", told)
    assert found, told
    mean, low, high = map(float, found.groups())
    assert score.mean == pytest.approx(mean, abs=0.01) and score.low is not None and score.high is not None
    assert score.low < low < mean < high < score.high


def test_the_page_shows_it(finished: tuple[Path, Outcome]) -> None:
    text = write_report(finished[0]).read_text(encoding="utf-8")
    for words in (
        "random samples",
        "real images (oracle)",
        "attack_accuracy_top1",
        "The independent evaluator gets",
        "interval over classes",
    ):
        assert words in text
    assert "private images of the classes beside" in text
    table = (finished[0] / "table.md").read_text(encoding="utf-8")
    assert "from random samples (0 %)" in table and "psnr" not in table


def test_its_generator_never_sees_a_row_of_a_client(finished: tuple[Path, Outcome]) -> None:
    chosen = scenario()
    images = chosen.dataset.load()
    roles, owned = deal(chosen, images, Seeds(0))
    place = {row.numpy().tobytes(): index for index, row in enumerate(images.pixels)}
    assert len(place) == len(images), "no two images are the same, so an image tells its row"
    seen = {place[image.numpy().tobytes()] for shown in Archive.shown for image in shown}
    assert seen == set(roles.auxiliary.tolist())
    assert not seen & {row for rows in owned for row in rows.tolist()}


def test_who_only_gets_scores_finds_classes_too(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, "threats=[{kind: plug_and_play, access: scores}]").outcomes
    assert outcome.threat == "plug_and_play (scores)"
    assert (outcome.scores["attack_accuracy_top1"].mean or 0) > 0.4 and "student" in outcome.settings


class Asking(ClassAttack):
    """Asks twice about the same images, and, where it holds the model, spoils it."""

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SCORES})

    per_class: int = EACH

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.scores is not None and leak.wanted is not None
        own = leak.auxiliary.images
        same = torch.equal(leak.scores(own, rng), leak.scores(own, rng))
        if leak.model is not None:
            with torch.no_grad():
                next(leak.model.parameters()).zero_()
        images = own[torch.randint(len(own), (len(leak.wanted),), generator=rng)]
        return Reconstruction(images, Evidence(settings="always the same" if same else "noisy"))


@pytest.mark.parametrize("known", ["no", "algorithm", "parameters"])
def test_whoever_asks_is_answered_as_the_deployed_model_answers(known: str, tmp_path: Path) -> None:
    noise = "defenses={noise: {kind: gaussian_noise, std: 0.5}}"
    threat = f"threats=[{{kind: plug_and_play, access: scores, knows_defense: '{known}'}}]"
    bare, noisy = run(tmp_path, noise, threat, f"attacks=[{{kind: '{HERE}:Asking'}}]").outcomes
    assert (bare.settings, noisy.settings) == ("always the same", "noisy")


def test_who_spoils_the_model_that_it_attacks_is_found_out(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, f"attacks=[{{kind: '{HERE}:Asking'}}]").outcomes
    assert not outcome.controls["victim_unchanged"].ok


def test_attacks_on_images_and_on_classes_share_a_victim_and_have_a_headline_each(tmp_path: Path) -> None:
    threats = "threats=[{kind: curious_server}, {kind: plug_and_play}]"
    both = run(tmp_path, threats, f"attacks=[{{kind: linear_inverse}}, {SMALL}]", "headline=psnr").outcomes
    told = {(one.threat, one.attack, one.headline, one.level) for one in both}
    assert told == {
        ("curious_server", "linear_inverse", "psnr", "instance"),
        ("plug_and_play", both[1].attack, "attack_accuracy_top1", "class"),
    }
    assert len(list(tmp_path.glob("none-seed-0"))) == 1
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "by psnr or attack_accuracy_top1" in text


def test_every_client_of_its_own_is_attacked_apart(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, "protocol={kind: parallel, sync: never, rounds: 4, batch_size: 16}").outcomes
    assert outcome.targets == 2 * 10 * EACH


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["metrics=[{kind: psnr}]"], "'attack_accuracy_top1': is none of the metrics of guesses at classes"),
        (["class_headline=fid_evaluator"], "class_headline: 'fid_evaluator': scores a whole set"),
        (["class_headline=psnr"], "class_headline: 'psnr': is none of the metrics of guesses at classes"),
        (["threats=[{kind: curious_server}]"], "needs scores, but in the inference leak curious_server lacks scores"),
        (["attacks=[{kind: linear_inverse}]"], "plug_and_play lacks auxiliary_pairs, smashed"),
        ([f"attacks=[{{kind: averaging, attack: {SMALL}}}]"], "rebuilds classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(assignments: list[str], words: str) -> None:
    with pytest.raises(FedsplitError) as caught:
        scenario("headline=psnr", *assignments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shape", "words"), [((1, 6, 6), "too small"), ((1, 8, 20), "too long")])
def test_images_that_its_generator_cannot_make_are_refused_before_any_compute(shape: Shape, words: str) -> None:
    with pytest.raises(FedsplitError, match=f"attacks.0: 'plug_and_play': images of .* are {words}.*; leave this"):
        check_cuts(scenario("attacks=[{kind: plug_and_play}]"), shape, 10)


def test_a_class_that_nobody_has_is_told() -> None:
    chosen = scenario()
    images = chosen.dataset.load()
    parties = gather(chosen, replace(images, labels=images.labels.clamp(max=8)), [], Seeds(0))
    cell = next(iter(chosen.cells))
    plan = chosen.plan(cell, (1, 8, 8), 10)
    with pytest.raises(FedsplitError, match="no client has an image of this class"):
        _truth(parties, [None], torch.arange(10), plan, Seeds(0))  # pyright: ignore[reportArgumentType]
