import json
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from fedsplit.generators.base import Progress, Synthesizer, fitted, imitated
from fedsplit.generators.conditional_gan import ConditionalGan
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.seeding import Seeds
from tests.federation.builders import holding
from tests.metrics.pictures import pictures

IMAGES = pictures(20, (1, 8, 8), seed=0)


def small(**changes: Any) -> ConditionalGan:
    return ConditionalGan(**({"epochs": 1, "least_steps": 2, "batch_size": 4, "widths": (5,)} | changes))


@dataclass
class Asker:
    """Counts trainings: somebody is told of every one."""

    folder: Path
    trainings: int = 0

    def ask(
        self,
        generator: ConditionalGan | None = None,
        pixels: Tensor = IMAGES.pixels,
        labels: Tensor | None = IMAGES.labels,
        root: int = 0,
    ) -> Synthesizer:
        def tell(progress: Progress) -> None:
            self.trainings += progress.step == progress.steps

        return fitted(generator or small(), pixels, labels, Seeds(root), tell)

    @property
    def entries(self) -> list[Path]:
        return sorted((self.folder / "generators").iterdir())


@pytest.fixture
def asker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asker:
    monkeypatch.setenv("FEDSPLIT_CACHE", str(tmp_path / "kept"))
    return Asker(tmp_path / "kept")


def test_who_asks_again_waits_for_nothing(asker: Asker) -> None:
    first, again = asker.ask(), asker.ask()
    assert asker.trainings == 1
    assert fingerprint(first) == fingerprint(again)


def test_a_clients_generator_is_trained_once_for_all_that_is_made_of_its_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[int] = []
    fit = ConditionalGan.fit

    def counted(self: ConditionalGan, *asked: Any) -> Synthesizer:
        trained.append(len(asked[0]))
        return fit(self, *asked)

    monkeypatch.setattr("fedsplit.generators.base._imitations", OrderedDict())
    monkeypatch.setattr(ConditionalGan, "fit", counted)
    own, other = holding(IMAGES), holding(IMAGES.at(torch.arange(12)))
    device = torch.device("cpu")
    first = imitated(small(), own, device, Seeds(0))
    assert imitated(small(), own, device, Seeds(0)).synthesizer is first.synthesizer
    assert trained == [20]
    for rows, seed in ((other, 0), (own, 1)):
        imitated(small(), rows, device, Seeds(seed))
    imitated(small(rate=0.01), own, device, Seeds(0))
    assert trained == [20, 12, 20, 20]
    monkeypatch.setattr("fedsplit.generators.base._IMITATIONS", 1)
    imitated(small(), own, device, Seeds(3))
    anew = imitated(small(), own, device, Seeds(0)).synthesizer
    assert anew is not first.synthesizer and fingerprint(anew) == fingerprint(first.synthesizer)


OTHERS: dict[str, Callable[[Asker], Synthesizer]] = {
    "images": lambda asker: asker.ask(pixels=IMAGES.pixels.flip(0)),
    "labels": lambda asker: asker.ask(labels=IMAGES.labels.flip(0)),
    "no labels": lambda asker: asker.ask(labels=None),
    "seed": lambda asker: asker.ask(root=1),
    "settings": lambda asker: asker.ask(small(rate=0.01)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_question_has_another_answer(asker: Asker, other: str) -> None:
    first, second = asker.ask(), OTHERS[other](asker)
    assert asker.trainings == len(asker.entries) == 2
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(OTHERS[other](asker)) == fingerprint(second)
    assert asker.trainings == 2


def test_another_version_or_number_of_threads_trains_anew(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    asker.ask()
    monkeypatch.setattr("fedsplit.generators.base.version", lambda name: f"another {name}")
    asker.ask()
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    asker.ask()
    assert asker.trainings == 3


def flip_a_bit(entry: Path) -> None:
    content = bytearray((entry / "network.safetensors").read_bytes())
    content[-1] ^= 64
    (entry / "network.safetensors").write_bytes(content)


def cut_short(entry: Path) -> None:
    content = (entry / "network.safetensors").read_bytes()
    (entry / "network.safetensors").write_bytes(content[: len(content) // 2])


def rename_a_tensor(entry: Path) -> None:
    content = (entry / "network.safetensors").read_bytes()
    (entry / "network.safetensors").write_bytes(content.replace(b"network.0.weight", b"network.9.weight"))


def write_nonsense(entry: Path) -> None:
    (entry / "training.json").write_text("[1")


def claim_another_recipe(entry: Path) -> None:
    training = json.loads((entry / "training.json").read_text())
    (entry / "training.json").write_text(json.dumps(training | {"recipe": "another"}))


def forget_the_reports(entry: Path) -> None:
    (entry / "training.json").unlink()


def replace_by_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("a file")


DAMAGE = [
    flip_a_bit,
    cut_short,
    rename_a_tensor,
    write_nonsense,
    claim_another_recipe,
    forget_the_reports,
    replace_by_a_file,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_trained_anew(asker: Asker, damage: Callable[[Path], None]) -> None:
    first = asker.ask()
    damage(asker.entries[0])
    assert fingerprint(asker.ask()) == fingerprint(first)
    assert asker.trainings == 2
    asker.ask()
    assert asker.trainings == 2, "what was trained anew is whole again"


def test_where_nothing_can_be_written_everybody_trains(asker: Asker) -> None:
    asker.folder.write_text("no folder")
    assert fingerprint(asker.ask()) == fingerprint(asker.ask())
    assert asker.trainings == 2


def test_losses_and_samples_lie_beside_the_weights(asker: Asker) -> None:
    asker.ask()
    (entry,) = asker.entries
    assert entry.name.startswith("conditional-gan-")
    reports = json.loads((entry / "training.json").read_text())["reports"]
    assert {"step", "loss", "critic_loss", "quality"} <= set(reports[-1])
    with Image.open(entry / "samples.png") as sheet:
        assert (sheet.width, sheet.height, sheet.mode) == (10 * 9 - 1, 8 * 9 - 1, "L")
        assert sheet.getextrema() != (0, 0)
