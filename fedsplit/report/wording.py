"""How numbers, directions and anchors are put into words, the same in every output."""

import math
from collections.abc import Iterable

from fedsplit.report.estimate import Coverage, Estimate, Spread
from fedsplit.report.rows import Bounded, Row, Summary

ABSENT = "\N{EN DASH}"
"""Printed where there is no number."""

_LABELS = {
    "unguided": "random samples",
    "mean_image": "mean image",
    "class_mean_oracle": "class mean (oracle)",
    "nearest_auxiliary_oracle": "nearest auxiliary (oracle)",
    "real_images_oracle": "real images (oracle)",
}
_SENTENCES = {
    "unguided": "What the same attacker guesses without a leak: samples of its generator, of no class in particular. "
    "An attack that does not beat this has learned nothing from the model.",
    "mean_image": "Guess the average of the attacker's own images for every target: an attack that does not beat this "
    "has learned nothing about a single image.",
    "class_mean_oracle": "Guess the average of the attacker's images of the target's true class. An oracle, since no "
    "attacker is told that class; it shows what knowing the class alone would give.",
    "nearest_auxiliary_oracle": "Guess that of the attacker's images which is closest to the private one. An oracle, "
    "since it looks at the truth; it shows what picking from one's own images could give at best.",
    "real_images_oracle": "Guess real images of the class that are no client's. An oracle, since an attacker "
    "would have to know what the classes are; it shows how a guess scores that is as good as a photograph.",
}


def anchor_label(name: str) -> str:
    """What an anchor is called; oracles, which no attacker could compute, say so."""
    return _LABELS.get(name, name.replace("_", " "))


def anchor_sentence(name: str) -> str:
    """What an anchor means; empty for one that is not known here."""
    return _SENTENCES.get(name, "")


def metric_label(name: str, found: Estimate) -> str:
    """Name and unit: `psnr, dB`."""
    return f"{name}, {found.unit}" if found.unit else name


def metric_header(name: str, found: Estimate) -> str:
    """Name, unit, and the direction that leaks more: `psnr, dB ↑`."""
    return f"{metric_label(name, found)} {'↑' if found.sign > 0 else '↓'}"


def decimals(estimates: Iterable[Estimate]) -> int:
    """As many for a whole column as its narrower intervals (the lower quartile) need; none beyond a millionth."""
    known = [found for found in estimates if found.mean is not None]
    halves = sorted(
        (found.high - found.low) / 2
        for found in known
        if found.low is not None and found.high is not None and found.high > found.low
    )
    if halves:
        return min(max(-math.floor(math.log10(halves[len(halves) // 4] / 2)), 0), 6)
    # Without an interval nothing says how sure a digit is: three that matter.
    largest = max((abs(found.mean) for found in known if found.mean), default=1.0)
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)


def number(value: float | None, digits: int) -> str:
    """A number with this many decimals and a true minus sign, which a zero has not."""
    return ABSENT if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def significant(value: float) -> str:
    """A number with three digits that matter."""
    return f"{value:#.3g}".rstrip(".").replace("-", "\u2212")


def traffic(size: float) -> str:
    """A size in bytes, in the largest unit that leaves it above one: `25.9 kB`."""
    power = min(int(math.log10(size) // 3), 3) if size >= 1 else 0
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def bounds(found: Estimate, digits: int) -> str:
    """`[low, high]`, or nothing where there is no interval."""
    if found.low is None or found.high is None:
        return ""
    return f"[{number(found.low, digits)}, {number(found.high, digits)}]"


def percent(spread: Spread) -> str:
    """A share as a percentage, with the deviation between seeds where there is one: `93.1 ± 0.4`."""
    if spread.mean is None:
        return ABSENT
    return deviating(100 * spread.mean, None if spread.deviation is None else 100 * spread.deviation)


def deviating(mean: float, deviation: float | None) -> str:
    """A mean in percent or points, with the deviation between seeds where there is one."""
    return number(mean, 1) if deviation is None else f"{number(mean, 1)} ± {number(deviation, 1)}"


HIJACKED = "After the name of an active attack: accuracy after the training of which it had the server, %."


def attack(row: Row) -> str:
    """The attack's name; with what is left of the accuracy where it had the server: `some_attack (10.2)`."""
    return row.attack if row.hijacked is None else f"{row.attack} ({percent(row.hijacked)})"


def seconds(spread: Spread) -> str:
    """A duration in seconds, with the deviation between seeds where there is one: `12.3 ± 0.4`."""
    if spread.mean is None:
        return ABSENT
    digits = 2 if spread.mean < 10 else 1 if spread.mean < 100 else 0
    mean = number(spread.mean, digits)
    return mean if spread.deviation is None else f"{mean} ± {number(spread.deviation, digits)}"


def original(row: Row) -> str:
    """What stands beside a guess: the image it is of, or any of the class that it is of."""
    return "of its class" if row.of_classes else "private"


def leaked(row: Row) -> str:
    """The normalised leakage of the headline, as a percentage without its sign."""
    reading = row.reading(row.headline)
    return ABSENT if reading is None or reading.leaked is None else f"{100 * reading.leaked:.0f}"


def worst_of(row: Row) -> str:
    """How the worst attack of a defense is marked; nothing for the others."""
    if not row.worst_of:
        return ""
    return f"worst of {row.worst_of} attacks" if row.worst_of > 1 else "the only valid attack"


def leak_words(row: Row) -> str:
    """Which leak was attacked."""
    return f"{row.leak}, round {row.round}"


def reason(row: Row) -> str:
    """Why a row is invalid, on one line."""
    return "; ".join(row.reasons)


def clipped(words: str, longest: int) -> str:
    """No more than so many characters, the last one an ellipsis where some are left out."""
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def caption(text: str, notice: str) -> str:
    """The text under a table or figure, with the words that every output of this data must carry."""
    return f"{text} Data: {notice.rstrip('.')}.".strip() if notice else text


def bound_label(name: str) -> str:
    """What a bound is called."""
    return name.replace("_", " ")


def limit(found: Bounded, digits: int) -> str:
    """A bound's number behind its direction: `≥ 0.012`."""
    return f"{'≥' if found.direction == 'at least' else '≤'} {number(found.value, digits)}"


def bound_sentences(summary: Summary) -> tuple[str, ...]:
    """What each bound is about, and where there is none and why, a sentence each."""
    bounds = [(row.defense, found) for row in summary.rows for found in row.bounds]
    about = dict.fromkeys(f"{bound_label(found.name).capitalize()}: of {found.about}." for _, found in bounds)
    missing: dict[tuple[str, str], dict[str, None]] = {}
    for defense, found in bounds:
        if found.value is None:
            missing.setdefault((bound_label(found.name), found.reason), {})[defense] = None
    absent = (f"No {name} on {', '.join(defenses)}: {reason}." for (name, reason), defenses in missing.items())
    return (*about, *absent)


def interval_sentences(summary: Summary) -> tuple[str, ...]:
    """How the intervals in these rows were made, one sentence for each way that occurs."""
    found = {reading.estimate.coverage for row in summary.rows for reading in row.readings}
    return tuple(_COVERAGE[coverage] for coverage in Coverage if coverage in found)


def matched_header(drop: float) -> str:
    """Over what a defense leaves at this cost in points of accuracy."""
    return f"for {drop:g} {'point' if drop == 1 else 'points'}"


MATCHED = (
    "What the worst attack rebuilds where a defense may cost so many points of accuracy, a mean over seeds below the "
    "undefended row. Between strengths it is interpolated along those that no other strength of the same defense beats "
    "in both leak and accuracy; nothing is extrapolated: where the strongest costs less, its leak stands; "
    f"{ABSENT}: every strength costs more."
)


def evaluator_sentences(summary: Summary) -> tuple[str, ...]:
    """How good the judge is by whose eyes some metrics look; nothing where none does."""
    known = [entry.outcome.evaluator_accuracy for row in summary.rows for entry in row.entries]
    found = [accuracy for accuracy in known if accuracy is not None]
    if not found:
        return ()
    shown = [f"{100 * accuracy:.1f}" for accuracy in (min(found), max(found))]
    told = shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"
    return (f"The independent evaluator gets {told} % of images right that it was not trained on.",)


_COVERAGE = {
    Coverage.TRAININGS: "Brackets: 95 % bootstrap interval over images and trainings (seeds are drawn first, then "
    "images within each).",
    Coverage.IMAGES: "Brackets: 95 % bootstrap interval over images only; with fewer than three seeds it says nothing "
    "about another training.",
    Coverage.CLASSES_AND_TRAININGS: "Brackets where classes are rebuilt: 95 % bootstrap interval over classes and "
    "trainings (seeds and classes are drawn first, then the guesses at a class within each).",
    Coverage.CLASSES: "Brackets where classes are rebuilt: 95 % bootstrap interval over classes and the guesses at "
    "each; with fewer than three seeds it says nothing about another training.",
    Coverage.NOTHING: "A score without brackets has no interval.",
}
