"""A run made by hand: phantoms, attacks that blur and fade them, and the scores that follow. Nothing is trained."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.numerics.principal import principal_components
from fedsplit.records.exhibit import Exhibit
from fedsplit.records.outcome import Activity, BytesPerStep, Control, DataNote, Outcome, Outcomes, Score, Utility
from fedsplit.report.folder import CARD, SCENARIO, RunFolder, cell_files

NOTICE = "synthetic stand-in, not Medical MNIST"
SIZE = 28
CLASSES = ("dark", "grey", "bright")


@dataclass(frozen=True)
class Trial:
    """What one attack makes of one defense: kept is the share of the private image that it rebuilds.

    blocks: (name, share of active values, active values per pixel) of each client block.
    """

    defense: str
    attack: str
    kept: float
    accuracy: float
    reason: str = ""
    threat: str = "curious_server"
    round: int = 5
    blocks: tuple[tuple[str, float, float], ...] = ()


TRIALS = (
    Trial("none", "linear_inverse", 0.93, 0.962),
    Trial("none", "inverse_network", 0.88, 0.962),
    Trial("none", "likelihood", 0.70, 0.962),
    Trial("gaussian std=0.25", "linear_inverse", 0.62, 0.955),
    Trial("gaussian std=0.25", "inverse_network", 0.74, 0.955),
    Trial("gaussian std=0.25", "likelihood", 0.31, 0.955),
    Trial("gaussian std=1.0", "linear_inverse", 0.12, 0.871),
    Trial("gaussian std=1.0", "inverse_network", 0.33, 0.871),
    Trial("gaussian std=1.0", "likelihood", -0.30, 0.871, "significantly below the mean image: a broken attack"),
    Trial("rank 8 + noise", "linear_inverse", 0.45, 0.941),
    Trial("rank 8 + noise", "inverse_network", 0.52, 0.941),
    Trial("rank 8 + noise", "likelihood", 0.22, 0.941),
    Trial("NoPeek", "linear_inverse", 0.79, 0.948),
    Trial("NoPeek", "inverse_network", 0.81, 0.948),
    Trial("NoPeek", "likelihood", 0.55, 0.948),
)
"""Three attacks on the undefended row and on four defenses; the last attack is broken on one of them."""

CARD_TEXT = """\
clients         10, each with its own images and the first block (rows)
server          the rest of the network, labels, and the averaged client segments
curious_server  sees smashed data and cut gradients; runs the client segment on images of its own
linear_inverse  uses auxiliary pairs
inverse_network uses auxiliary pairs
"""

SCENARIO_TEXT = """\
name: medmnist
seeds: [0, 1, 2]
dataset: {kind: medical_mnist, image_size: 28, stand_in: phantoms}
defenses:
  none: {kind: none}
  gaussian std=0.25: {kind: gaussian_noise, std: 0.25}
  gaussian std=1.0: {kind: gaussian_noise, std: 1.0}
"""


def phantoms(count: int, rng: Generator) -> Tensor:
    """(count, 1, 28, 28) bodies with organs: bright ellipses on black."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    images = torch.zeros(count, SIZE, SIZE)
    for part in range(6):
        centre = (torch.rand(count, 2, 1, 1, generator=rng) - 0.5) * (0.2 if part == 0 else 0.9)
        radius = torch.rand(count, 2, 1, 1, generator=rng) * 0.25 + (0.6 if part == 0 else 0.08)
        brightness = torch.rand(count, 1, 1, generator=rng) * 0.6 - (-0.35 if part == 0 else 0.3)
        distance = ((x - centre[:, 0]) / radius[:, 0]) ** 2 + ((y - centre[:, 1]) / radius[:, 1]) ** 2
        images += brightness * torch.sigmoid((1 - distance) * 12)
    return images.clamp(0, 1).unsqueeze(1)


def scores(private: Tensor, guess: Tensor) -> dict[str, Tensor]:
    """Per target: a structural similarity over windows of 7 x 7, its noise in decibel, and the mean square error."""
    error = (private - guess).square().flatten(1).mean(1)
    return {"ssim": _similarity(private, guess), "psnr": -10 * error.clamp_min(1e-9).log10(), "mse": error}


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    def local(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 7, stride=1)

    means, variances = (local(a), local(b)), (local(a * a) - local(a) ** 2, local(b * b) - local(b) ** 2)
    luminance = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    structure = (2 * (local(a * b) - means[0] * means[1]) + 9e-4) / (sum(variances) + 9e-4)
    return (luminance * structure).flatten(1).mean(1)


UNITS = {"ssim": ("", "higher"), "psnr": ("dB", "higher"), "mse": ("", "lower")}


def attacked(trial: Trial, seed: int, targets: int = 120, headline: str = "ssim") -> tuple[Outcome, Exhibit]:
    """One outcome and its exhibit. The same seed has the same private images under every trial."""
    rng = Generator().manual_seed(seed)
    private, auxiliary = phantoms(targets, rng), phantoms(200, rng)
    mean_image = auxiliary.mean(0, keepdim=True)
    flat, others = private.flatten(1), auxiliary.flatten(1)
    distances, neighbours = torch.cdist(flat, others).min(1)
    nearest = distances / SIZE
    own = Generator().manual_seed(1000 * seed + sum(map(ord, trial.defense + trial.attack)) + trial.round)
    noise = torch.randn(private.shape, generator=own)
    # Images far from all others are harder to rebuild.
    kept = (trial.kept - 1.5 * (nearest - nearest.mean())).clamp(-0.5, 0.97).reshape(-1, 1, 1, 1)
    blurred = F.avg_pool2d(private, 3, stride=1, padding=1)
    guess = (kept * blurred + (1 - kept) * mean_image + 0.12 * (1 - kept) * noise).clamp(0, 1)
    values = scores(private, guess)
    order = values[headline].argsort(descending=UNITS[headline][1] == "higher")
    picks = (int(order[0]), int(order[targets // 2]), int(order[-1]))
    anchors = {
        "mean_image": scores(private, mean_image.expand_as(private)),
        "class_mean_oracle": scores(private, mean_image.expand_as(private) * 0.9 + 0.1 * private),
        "nearest_auxiliary_oracle": scores(private, auxiliary[neighbours]),
    }
    outcome = Outcome(
        defense=trial.defense,
        threat=trial.threat,
        attack=trial.attack,
        leak="inference",
        round=trial.round,
        seed=seed,
        knows_defense="parameters",
        targets=targets,
        valid=not trial.reason,
        reason=trial.reason,
        headline=headline,
        scores={name: _score(name, column) for name, column in values.items()},
        anchors={name: {m: float(v.mean()) for m, v in columns.items()} for name, columns in anchors.items()},
        controls={
            "victim unchanged": Control(ok=True, detail="checksum 9f31 before and after"),
            "above the mean image": Control(ok=not trial.reason, detail=trial.reason or "lower end above the anchor"),
            "permuted leak": Control(ok=True, detail="upper end 0.03 at or below the anchor 0.05"),
        },
        utility=Utility(accuracy=trial.accuracy + 0.004 * (seed - 1)),
        bytes_per_step=BytesPerStep(up=25856.0, down=25600.0),
        seconds=12.5,
        activity={name: Activity(share=share, per_pixel=pixel) for name, share, pixel in trial.blocks},
        training_seconds=30.0 + trial.kept + seed,
    )
    at = list(picks)
    exhibit = Exhibit(
        values=tuple(values.items()),
        nearest=nearest,
        picks=picks,
        private=private[at],
        anchor=mean_image.expand(3, -1, -1, -1),
        reconstruction=guess[at],
        map=principal_components(blurred.flatten(1), 5).float(),
        labels=(private.flatten(1).mean(1).argsort().argsort() * len(CLASSES)) // targets,
    )
    return outcome, exhibit


def joined(*pairs: tuple[Outcome, Exhibit], notice: str = NOTICE, scenario: str = "medmnist") -> Outcomes:
    """The outcomes as one file has them."""
    return Outcomes(
        scenario=scenario,
        data=DataNote(
            kind="medical_mnist",
            stand_in=bool(notice),
            notice=notice,
            images=12000,
            duplicates=17,
            grouped=2,
            classes=CLASSES,
        ),
        outcomes=tuple(outcome for outcome, _ in pairs),
        versions={"fedsplit": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
    )


def write_run(
    root: Path,
    trials: tuple[Trial, ...] = TRIALS,
    seeds: tuple[int, ...] = (0, 1, 2),
    notice: str = NOTICE,
    targets: int = 120,
) -> Path:
    """A finished run on disk, one cell per defense and seed."""
    folder = RunFolder(root)
    for seed in seeds:
        for number, defense in enumerate(dict.fromkeys(trial.defense for trial in trials)):
            pairs = [attacked(trial, seed, targets) for trial in trials if trial.defense == defense]
            cell = folder.cell(f"{number}-seed{seed}")
            cell.keep(cell_files(joined(*pairs, notice=notice), [exhibit for _, exhibit in pairs]))
            (cell.path / SCENARIO).write_text(SCENARIO_TEXT)
    (root / CARD).write_text(CARD_TEXT)
    return root


def renamed(pair: tuple[Outcome, Exhibit], **changes: object) -> tuple[Outcome, Exhibit]:
    """The same pair with other fields of the outcome."""
    outcome, exhibit = pair
    return outcome.model_copy(update=changes), replace(exhibit)


def _score(name: str, column: Tensor) -> Score:
    unit, more_leaks = UNITS[name]
    half = 1.96 * float(column.std()) / len(column) ** 0.5
    mean = float(column.mean())
    return Score.model_validate(
        {"mean": mean, "low": mean - half, "high": mean + half, "unit": unit, "more_leaks": more_leaks}
    )
