"""One cell x threat x attack, scored: the unit of every table, and the schema of `outcomes.json`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fedsplit.records.leak import LeakKind, Level

SCHEMA = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Score(_Record):
    """A mean over the targets with its 95 % interval; None where the metric has no interval or no finite mean."""

    mean: float | None
    low: float | None
    high: float | None
    unit: str
    more_leaks: Literal["higher", "lower"]
    """Which direction means that more is leaked."""


class Control(_Record):
    """One check of the attack itself."""

    ok: bool
    detail: str


class Utility(_Record):
    """What the deployed, defended model is worth: its accuracy on the test rows, in [0, 1]."""

    accuracy: float


class Activity(_Record):
    """How much of what one block of the deployed client segment puts out is not exactly zero, over the test images."""

    share: float
    """Active values among all values of the block's output, in [0, 1]."""
    per_pixel: float
    """Active values per value of the image (channels x height x width): below 1 there are fewer than pixels."""


class Information(_Record):
    """How much two losses hang on one block: its mean squared gradient, as a share of that of all blocks but the last.

    classification, inversion: in [0, 1]. frozen: whether the block never moved in training.
    """

    classification: float
    inversion: float
    frozen: bool


class BytesPerStep(_Record):
    """Mean size of one crossing: smashed data and labels up, cut gradient down, in bytes."""

    up: float
    down: float


class Limit(_Record):
    """What a bound says of all attacks that it is about."""

    value: float | None
    """None where the bound does not hold."""
    metric: str
    direction: Literal["at least", "at most"]
    """On which side of the value the metric is."""
    about: str
    """Which attacks, in words."""
    reason: str = ""
    """Why it does not hold."""


class Outcome(_Record):
    """One attack under one threat on one cell. `scores` and `anchors` are by metric name."""

    defense: str
    threat: str
    attack: str
    leak: LeakKind
    round: int
    seed: int
    knows_defense: Literal["no", "algorithm", "parameters"]
    targets: int
    valid: bool
    reason: str
    """Why it is invalid; empty for a valid one."""
    headline: str
    """The name of the metric that ranks attacks."""
    scores: dict[str, Score]
    anchors: dict[str, dict[str, float | None]]
    controls: dict[str, Control]
    utility: Utility
    bytes_per_step: BytesPerStep
    seconds: float
    """Wall time of the attack and its controls."""
    settings: str = ""
    """What the attacker chose by its own validation images."""
    activity: dict[str, Activity] = {}
    """By block of the deployed client segment, in order; empty in files of earlier versions."""
    information: dict[str, Information] = {}
    """By block of the whole deployed model, in order, where some were frozen; empty where none was."""
    training_seconds: float | None = None
    """Wall time of training the victim, over all rounds; None in files of earlier versions."""
    dropped: int = 0
    """How often a client took part in a round and did not return from it: drawn so, or since it failed."""
    level: Level = "instance"
    """Whether the targets are images or classes."""
    evaluator_accuracy: float | None = None
    """Of the independent evaluator, on evaluation rows held out; None where no metric needs it."""
    privacy: str = ""
    """What is proven of the trained weights, or why nothing is, in words; empty where the defense claims nothing."""
    hijacked: bool = False
    """Whether the attack had the server while the victim was trained: what is said of the training is said of that
    one, which nobody else attacks."""
    limits: dict[str, Limit] = {}
    """By bound; empty where none was asked for."""


class DataNote(_Record):
    """Where the images came from."""

    kind: str
    stand_in: bool
    notice: str = ""
    """Words that every output carries; empty for the data that was asked for."""
    images: int = 0
    duplicates: int = 0
    """Exact copies that were dropped."""
    grouped: int = 0
    """Rows that share a group with another row, kept together in one role."""
    classes: tuple[str, ...] = ()
    """Their names, by label; empty in files of earlier versions."""


class Outcomes(_Record):
    """The content of `outcomes.json`, of a cell and of a whole run."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    scenario: str
    data: DataNote
    outcomes: tuple[Outcome, ...]
    versions: dict[str, str]

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)
