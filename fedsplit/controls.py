"""Runs an attack with its controls and says whether its outcome may be believed.

An attack that does not work looks just like a defense that does; these checks tell them apart.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fedsplit.attacks.base import Attack, Check
from fedsplit.defenses.base import Defense
from fedsplit.records.leak import Leak, Query
from fedsplit.records.outcome import Control, Score
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.seeding import Seeds

Scorer = Callable[[Tensor], Score]
"""A reconstruction's images -> its score by the headline metric; what it compares with stays with its maker."""


@dataclass(frozen=True)
class Bench:
    """What controls need around an attack.

    score: the headline metric. anchor: its value for the mean of the adversary's images. error: the mean squared error,
    error_anchor: its value for the mean of images like the targets, which no guess without a leak gets below; neither
    is asked of guesses at classes.
    undefended: whether this is the row without defense. passed: whether the same attack passed
    there (True on that row itself).
    defended, bare: what a client answers with and without the defense, in the phase of the leak.
    victim: a fingerprint of everything that was trained and of every copy the adversary might hold.
    """

    score: Scorer
    anchor: float
    error: Scorer
    error_anchor: float
    undefended: bool
    passed: bool
    defense: Defense
    defended: Query
    bare: Query
    victim: Callable[[], str]


@dataclass(frozen=True)
class Judged:
    """What an attack rebuilt, leak by leak, with the checks it went through. reason: why it is invalid, or empty."""

    reconstructions: tuple[Reconstruction, ...]
    controls: dict[str, Control]
    seconds: float

    @property
    def images(self) -> Tensor:
        """Of all leaks, one after the other. Only where the control "images" is content."""
        return _joined(self.reconstructions)

    @property
    def unguided(self) -> Tensor | None:
        """What the attacker would have guessed without a leak, in the same order, where that is not the mean image."""
        return _unguided(self.reconstructions)

    @property
    def settings(self) -> str:
        """What the attacker chose, each choice told once."""
        return "; ".join(dict.fromkeys(guess.evidence.settings for guess in self.reconstructions))

    @property
    def valid(self) -> bool:
        """Whether every control is content."""
        return all(control.ok for control in self.controls.values())

    @property
    def reason(self) -> str:
        """What the failed controls found."""
        return "; ".join(control.detail for control in self.controls.values() if not control.ok)


def judge(attack: Attack, leaks: Sequence[Leak], bench: Bench, seeds: Seeds) -> Judged:
    """One attack on each of the leaks, and every control that applies to all that it rebuilt."""
    victim = bench.victim()
    began = time.perf_counter()
    # Everywhere with the same random numbers: what differs is the victim.
    guesses = tuple(attack.reconstruct(leak, seeds("attack")) for leak in leaks)
    seconds = time.perf_counter() - began
    controls = {"images": _first_fault([_images(guess, leak) for guess, leak in zip(guesses, leaks, strict=True)])}
    if controls["images"].ok:
        controls |= _strength(attack, leaks, guesses, bench, seeds)
    controls |= {
        check: _first_fault([_CHECKS[check](guess, bench.undefended) for guess in guesses])
        for check in sorted(attack.controls)
    }
    if bench.defense.releases:
        controls["defense_acts"] = _acts(leaks[0], bench, seeds)
    controls["victim_unchanged"] = _unchanged(ok=bench.victim() == victim)
    return Judged(guesses, controls, seconds)


def _joined(guesses: Sequence[Reconstruction]) -> Tensor:
    return torch.cat([guess.images.detach().cpu() for guess in guesses])


def _unguided(guesses: Sequence[Reconstruction]) -> Tensor | None:
    found = [guess.unguided.detach().cpu() for guess in guesses if guess.unguided is not None]
    return torch.cat(found) if len(found) == len(guesses) else None


def _first_fault(controls: Sequence[Control]) -> Control:
    return next((control for control in controls if not control.ok), controls[0])


def _strength(
    attack: Attack, leaks: Sequence[Leak], guesses: Sequence[Reconstruction], bench: Bench, seeds: Seeds
) -> dict[str, Control]:
    score, trivial = bench.score(_joined(guesses)), _trivial(guesses, bench)
    if not bench.undefended:
        return {
            "passed_undefended": Control(
                ok=bench.passed,
                detail="the same attack on the undefended row" + ("" if bench.passed else " is invalid"),
            ),
            "not_broken": _not_broken(score, trivial),
        }
    if attack.level == "class":
        return {trivial.check: _beats(score, trivial), "permuted_leak": _shows_its_class(guesses, score, bench)}
    rng = seeds("permutation")
    shuffled = [attack.reconstruct(leak, seeds("attack")) for leak in _permuted(leaks, rng)]
    return {
        trivial.check: _beats(score, trivial),
        "permuted_leak": _powerless(bench, score, _joined(shuffled)),
    }


@dataclass(frozen=True)
class _Trivial:
    """The guess to beat, in words, its headline score, and what the control is called."""

    name: str
    anchor: float
    check: str


def _trivial(guesses: Sequence[Reconstruction], bench: Bench) -> _Trivial:
    unguided = _unguided(guesses)
    found = None if unguided is None else bench.score(unguided).mean
    if found is None:
        return _Trivial("the mean image", bench.anchor, "beats_mean_image")
    return _Trivial("guesses without a leak", found, "beats_unguided")


def _shows_its_class(guesses: Sequence[Reconstruction], score: Score, bench: Bench) -> Control:
    # Guesses at other classes are what the attack makes of a leak whose classes are permuted: there is nothing else in
    # it that is about one target.
    shifted = [guess.images.detach().cpu().roll(len(guess.images) // 2, dims=0) for guess in guesses]
    permuted = bench.score(torch.cat(shifted))
    ok = _apart(score, permuted)
    verb = "" if ok else "the guesses do not depend on the class: "
    detail = f"{verb}with the classes permuted, headline {_shown(permuted)} instead of {_shown(score)}"
    return Control(ok=ok, detail=detail)


def _permuted(leaks: Sequence[Leak], rng: Generator) -> list[Leak]:
    """Every target has what is about another one, of whichever leak: a random cycle leaves nothing in its place."""
    sizes = [leak.targets for leak in leaks]
    cycle = torch.randperm(sum(sizes), generator=rng)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    parts = order.to(leaks[0].auxiliary.images.device).split(sizes)
    return [leak.permuted(own, leaks) for leak, own in zip(leaks, parts, strict=True)]


def _beats(score: Score, trivial: _Trivial) -> Control:
    worst = score.low if score.more_leaks == "higher" else score.high
    ok = worst is not None and _leaks_more(worst, trivial.anchor, score)
    verb = "beats" if ok else "does not beat"
    return Control(ok=ok, detail=f"{_shown(score)} {verb} {trivial.name} ({trivial.anchor:.3g})")


def _powerless(bench: Bench, score: Score, shuffled: Tensor) -> Control:
    # Without a leak no guess has a smaller expected squared error than the mean image. Other metrics know no such law:
    # any sharp digit has more structural similarity with a digit than the mean digit has.
    error, permuted = bench.error(shuffled), bench.score(shuffled)
    above = error.low is None or error.low < bench.error_anchor
    alike = not _apart(score, permuted)
    told = f"with the leak permuted, mse {_shown(error)} against the mean image ({bench.error_anchor:.3g})"
    found = f"{told}, headline {_shown(permuted)} instead of {_shown(score)}"
    if above:
        return Control(ok=False, detail=f"the guess does not depend on the leak as it should: {found}")
    return Control(ok=not alike, detail=f"the permuted leak does as well: {found}" if alike else found)


def _apart(score: Score, permuted: Score) -> bool:
    if score.more_leaks == "higher":
        return score.low is not None and permuted.high is not None and permuted.high < score.low
    return score.high is not None and permuted.low is not None and permuted.low > score.high


def _not_broken(score: Score, trivial: _Trivial) -> Control:
    best = score.high if score.more_leaks == "higher" else score.low
    # Equal is fine: with nothing to learn, the mean image is the right answer.
    ok = best is not None and (best == trivial.anchor or _leaks_more(best, trivial.anchor, score))
    detail = f"{_shown(score)} against {trivial.name} ({trivial.anchor:.3g})"
    return Control(ok=ok, detail=detail if ok else f"broken attack: {detail} is significantly worse")


def _leaks_more(value: float, anchor: float, score: Score) -> bool:
    return value > anchor if score.more_leaks == "higher" else value < anchor


def _shown(score: Score) -> str:
    mean, low, high = (f"{value:.3g}" if value is not None else "?" for value in (score.mean, score.low, score.high))
    return f"{mean} [{low}, {high}]"


def _images(guess: Reconstruction, leak: Leak) -> Control:
    expected = (leak.targets, *leak.image_shape)
    if tuple(guess.images.shape) != expected:
        return Control(ok=False, detail=f"images of shape {tuple(guess.images.shape)} instead of {expected}")
    finite = bool(torch.isfinite(guess.images).all())
    return Control(ok=finite, detail="one finite image per target" if finite else "images that are not finite")


def _moved(guess: Reconstruction, undefended: bool) -> Control:
    del undefended
    ok = guess.evidence.before != guess.evidence.after
    return Control(ok=ok, detail=f"the attacker's parameters {'moved' if ok else 'did not move'}")


def _fell(guess: Reconstruction, undefended: bool) -> Control:
    first, *later = guess.evidence.losses or (float("nan"),)
    # A perfect defense leaves nothing to learn, so under a defense the loss need only not rise.
    ceiling = 0.9 * first if undefended else 1.02 * first
    lowest = min(later, default=float("nan"))
    ok = lowest <= ceiling
    verb = "went" if ok else "did not fall: it went"
    return Control(ok=ok, detail=f"the attacker's training loss {verb} from {first:.3g} to {lowest:.3g}")


_CHECKS: dict[Check, Callable[[Reconstruction, bool], Control]] = {"parameters_moved": _moved, "loss_fell": _fell}


def _acts(leak: Leak, bench: Bench, seeds: Seeds) -> Control:
    images = leak.auxiliary.images[:8]
    once = bench.defended(images, seeds("acts", 1))
    again = bench.defended(images, seeds("acts", 2))
    bare = bench.bare(images, seeds("acts", 1))
    ok = not torch.equal(once, again) or not torch.equal(once, bare)
    return Control(ok=ok, detail=f"the defense {'acts' if ok else 'does not act'} on what the adversary sees")


def _unchanged(*, ok: bool) -> Control:
    verb = "are as before" if ok else "were changed by"
    return Control(ok=ok, detail=f"the victim's weights and buffers {verb} the attack")
