"""Every way in which an attack or a defense can be fake is made here on purpose, and has to be caught."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor, nn

from fedsplit.attacks.base import Attack
from fedsplit.controls import Bench, Judged, _permuted, judge
from fedsplit.defenses.base import Defense
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.none import Undefended
from fedsplit.records.leak import Asset, Auxiliary, ClientSegment, Leak
from fedsplit.records.outcome import Score
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds

TARGETS = 60
SHAPE = (1, 4, 4)


@dataclass
class Arena:
    """A client that scales images by two, its leak, and a bench that scores by minus the squared error."""

    defense: Defense = field(default_factory=Undefended)
    undefended: bool = True
    passed: bool = True

    def __post_init__(self) -> None:
        draw = Seeds(5)
        self.truth = torch.rand(TARGETS, *SHAPE, generator=draw("truth"))
        known = torch.rand(80, *SHAPE, generator=draw("known"))
        self.client = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.client.weight, 2.0)
        labels = torch.zeros(80, dtype=torch.long)
        self.leak = Leak(
            kind="inference",
            round=1,
            image_shape=SHAPE,
            classes=2,
            auxiliary=Auxiliary(known, labels, known[:10], labels[:10]),
            smashed=self.defended(self.truth, draw("release")),
            client_weights=ClientSegment(self.client),
        )
        self.mean = known.mean(dim=0)

    def bare(self, images: Tensor, rng: Generator) -> Tensor:
        with torch.no_grad():
            return self.client(images)

    def defended(self, images: Tensor, rng: Generator) -> Tensor:
        smashed = self.bare(images, rng)
        for member in self.defense.releasing("inference"):
            smashed = member.release(smashed, rng)
        return smashed

    def score(self, guess: Tensor) -> Score:
        errors = (guess.clamp(0, 1) - self.truth).square().flatten(1).mean(dim=1)
        spread = 1.96 * float(errors.std()) / TARGETS**0.5
        mean = float(errors.mean())
        return Score(mean=mean, low=mean - spread, high=mean + spread, unit="", more_leaks="lower")

    def judge(self, attack: Attack, parts: int = 1) -> Judged:
        anchor = self.score(self.mean.expand(TARGETS, *SHAPE)).mean or 0.0
        bench = Bench(
            score=self.score,
            anchor=anchor,
            error=self.score,
            error_anchor=anchor,
            undefended=self.undefended,
            passed=self.passed,
            defense=self.defense,
            defended=self.defended,
            bare=self.bare,
            victim=lambda: str(self.client.weight.tolist()),
        )
        assert self.leak.smashed is not None
        leaks = [replace(self.leak, smashed=smashed) for smashed in self.leak.smashed.chunk(parts)]
        return judge(attack, leaks, bench, Seeds(1))


class Inverting(Attack):
    """An honest attack: it divides by two, and shrinks to the mean by `trust`."""

    needs: ClassVar = frozenset({Asset.SMASHED})
    trust: float = 1.0

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.smashed is not None
        mean = leak.auxiliary.images.mean(dim=0)
        return Reconstruction(mean + self.trust * (leak.smashed / 2 - mean))


class Learning(Inverting):
    """Says of its training whatever the test wants."""

    controls: ClassVar = frozenset({"parameters_moved", "loss_fell"})
    losses: tuple[float, ...] = (1.0, 0.1)
    after: str = "b"

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.smashed is not None
        return Reconstruction(leak.smashed / 2, Evidence(self.losses, "a", self.after))


class VictimTraining(Attack):
    """The optimiser holds the victim's weights."""

    needs: ClassVar = frozenset({Asset.CLIENT_WEIGHTS})

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.client_weights is not None and leak.smashed is not None
        with torch.no_grad():
            for parameter in leak.client_weights.broadcast.parameters():
                parameter.add_(0.1)
        return Reconstruction(leak.smashed / 2)


class Constant(Attack):
    """Always the same images, whatever the leak says: the truth where a test hands it over, else noise."""

    needs: ClassVar = frozenset({Asset.SMASHED})
    images: ClassVar[Tensor]

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        return Reconstruction(self.images)


class Hungry(Learning):
    """Learns nothing from a leak of fewer than all targets but the first."""

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.smashed is not None
        first = bool(torch.equal(leak.smashed[0], Arena().leak.smashed[0]))  # pyright: ignore[reportOptionalSubscript]
        return Reconstruction(leak.smashed / 2, Evidence((1.0, 0.1 if first else 1.0), "a", "b"))


def failed(judged: Judged) -> set[str]:
    return {name for name, control in judged.controls.items() if not control.ok}


def test_an_honest_attack_on_the_undefended_row_is_valid() -> None:
    judged = Arena().judge(Inverting())
    assert judged.valid and not judged.reason
    assert set(judged.controls) == {"images", "beats_mean_image", "permuted_leak", "victim_unchanged"}


def test_frozen_attacker_weights_are_caught() -> None:
    assert failed(Arena().judge(Learning(after="a"))) == {"parameters_moved"}


@pytest.mark.parametrize("losses", [(), (1.0,), (1.0, 0.95)])
def test_a_training_loss_that_does_not_fall_is_caught(losses: tuple[float, ...]) -> None:
    judged = Arena().judge(Learning(losses=losses))
    assert failed(judged) == {"loss_fell"}
    assert "loss" in judged.reason


def test_an_optimiser_over_the_victim_is_caught() -> None:
    assert "victim_unchanged" in failed(Arena().judge(VictimTraining()))


def test_an_attack_that_knows_the_truth_without_the_leak_is_caught_by_permutation() -> None:
    arena = Arena()
    Constant.images = arena.truth
    assert failed(arena.judge(Constant())) == {"permuted_leak"}


def test_an_attack_no_better_than_the_mean_image_is_caught_on_the_undefended_row() -> None:
    assert "beats_mean_image" in failed(Arena().judge(Inverting(trust=0.0)))


def test_noise_that_is_off_at_inference_is_caught() -> None:
    silent = GaussianNoise(std=0.2, active="training")
    assert failed(Arena(defense=silent, undefended=False).judge(Inverting())) == {"defense_acts"}
    acting = GaussianNoise(std=0.2)
    assert Arena(defense=acting, undefended=False).judge(Inverting()).valid


def test_a_perfect_defense_is_not_called_a_broken_attack() -> None:
    arena = Arena(defense=GaussianNoise(std=1000.0), undefended=False)
    judged = arena.judge(Inverting(trust=0.0))
    assert judged.valid, judged.reason


def test_worse_than_the_mean_image_is_a_broken_attack_not_a_strong_defense() -> None:
    judged = Arena(defense=GaussianNoise(std=1000.0), undefended=False).judge(Inverting(trust=1.0))
    assert failed(judged) == {"not_broken"}
    assert "broken attack" in judged.reason


def test_an_attack_that_failed_undefended_says_nothing_about_a_defense() -> None:
    arena = Arena(defense=GaussianNoise(std=0.2), undefended=False, passed=False)
    assert failed(arena.judge(Inverting())) == {"passed_undefended"}


@pytest.mark.parametrize(
    "images",
    [torch.zeros(TARGETS - 1, *SHAPE), torch.zeros(TARGETS, 1, 4, 5), torch.full((TARGETS, *SHAPE), torch.nan)],
)
def test_images_of_a_wrong_shape_or_not_finite_are_caught(images: Tensor) -> None:
    Constant.images = images
    assert failed(Arena().judge(Constant())) == {"images"}


def test_the_permuted_leak_is_the_same_leak_in_another_order() -> None:
    leak = Arena().leak
    order = torch.arange(TARGETS - 1, -1, -1)
    moved = replace(leak, labels=torch.arange(TARGETS)).permuted(order)
    assert moved.smashed is not None and leak.smashed is not None and moved.labels is not None
    assert torch.equal(moved.smashed, leak.smashed[order])
    assert torch.equal(moved.labels, order)


@pytest.mark.parametrize("sizes", [(2,), (7,), (1, 1), (1, 4, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_under_the_permuted_leak_no_target_keeps_its_own(sizes: tuple[int, ...], seed: int) -> None:
    whole = Arena().leak
    assert whole.smashed is not None
    smashed = torch.arange(float(sum(sizes))).split(sizes)
    leaks = [replace(whole, smashed=some) for some in smashed]
    moved = _permuted(leaks, Generator().manual_seed(seed))
    found = torch.cat([one.smashed for one in moved if one.smashed is not None])
    assert [len(one.smashed) for one in moved if one.smashed is not None] == list(sizes)
    assert not (found == torch.cat(smashed)).any()
    assert torch.equal(found.sort().values, torch.cat(smashed))


def test_leaks_of_several_victims_are_judged_as_one() -> None:
    together, apart = Arena().judge(Inverting()), Arena().judge(Inverting(), parts=3)
    assert apart.valid and len(apart.reconstructions) == 3
    assert torch.equal(apart.images, together.images)
    assert apart.controls["beats_mean_image"] == together.controls["beats_mean_image"]


def test_a_fault_at_one_of_several_victims_is_a_fault() -> None:
    judged = Arena().judge(Hungry(), parts=2)
    assert failed(judged) == {"loss_fell"}
    assert "from 1 to 1" in judged.reason
