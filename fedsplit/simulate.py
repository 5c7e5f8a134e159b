"""The experiment: train under every defense, let every attack try what its threat lets it see, score the guesses."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import torch

from fedsplit import document
from fedsplit.component import Settings, Trust
from fedsplit.controls import Bench, Judged, judge
from fedsplit.errors import DataError, EngineError, blaming
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.errand import Errand, Files
from fedsplit.federation.exposure import Exposure, Observation, expose
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.trained import Standing, Trained
from fedsplit.metrics.mse import Mse
from fedsplit.numerics.fingerprint import fingerprint, fingerprint_of
from fedsplit.parties import Parties, gather
from fedsplit.reading import parse
from fedsplit.records.exhibit import Exhibit
from fedsplit.records.images import Images
from fedsplit.records.outcome import BytesPerStep, DataNote, Outcome, Outcomes, Utility
from fedsplit.records.truth import Truth
from fedsplit.report.folder import RunFolder, cell_files
from fedsplit.scenario import UNDEFENDED, Cell, Duel, Scenario
from fedsplit.scoring import MEAN_IMAGE, Scoreboard, anchors
from fedsplit.seeding import Seeds

_ERROR = Mse()
_OBSERVED = 4
"""Exposures that are kept for the next attack: defended and not, of both kinds of leak."""

Passed = Mapping[tuple[int, str, str, str, int], bool]
"""(seed, threat, attack, leak, round) -> whether this attack is valid on the undefended row."""


def simulate(scenario: Scenario, root: Path, say: Callable[[str], None], card: str = "") -> Outcomes:
    """Runs every cell that is not finished, then joins the outcomes. What is being done is told to `say`.

    card: what the run's folder keeps about who holds and sees what.
    """
    run = RunFolder(root)
    with writing(root):
        run.begin(document.dump(scenario.dump()), card, [cell.folder for cell in scenario.cells])
    scenario.engine.begin()
    images = scenario.dataset.load()
    note = _note(scenario, images)
    say(_told(note))
    lab = Laboratory(scenario, images, note)
    # The undefended cells first: the others are judged by their outcomes, too.
    for undefended in (True, False):
        due = [cell for cell in scenario.cells if (cell.row == UNDEFENDED) == undefended]
        _run(lab, run, due, say)
    return run.join()


def _run(lab: "Laboratory", run: RunFolder, cells: Sequence[Cell], say: Callable[[str], None]) -> None:
    """These cells, side by side where the engine can."""
    due: dict[str, Cell] = {}
    for cell in cells:
        folder, essence = run.cell(cell.folder), lab.essence(cell)
        if folder.holds(essence):
            say(f"{cell.row}, seed {cell.seed}: finished before")
        else:
            with writing(folder.path):
                folder.begin(essence)
            due[cell.folder] = cell
    passed = _passed(lab.scenario, run)

    def here(errand: Errand) -> Files:
        cell = due[errand.name]
        say(f"{cell.row}, seed {cell.seed}")
        return lab.run(cell, run.cell(cell.folder).path, passed)

    errands = [Assignment.of(lab, cell, run.cell(cell.folder).path, passed).errand for cell in due.values()]
    for name, files in lab.scenario.engine.spread(errands, here, say):
        folder = run.cell(name)
        with writing(folder.path):
            folder.keep(files)


def _passed(scenario: Scenario, run: RunFolder) -> Passed:
    """Which attacks are valid on the undefended cells that are finished."""
    folders = (run.cell(cell.folder) for cell in scenario.cells if cell.row == UNDEFENDED)
    finished = (folder.outcomes().outcomes for folder in folders if folder.finished)
    return {_key(outcome): outcome.valid for outcomes in finished for outcome in outcomes}


class Laboratory:
    """Where cells of one scenario are run: the images, and the parties of each seed, drawn once."""

    def __init__(self, scenario: Scenario, images: Images, note: DataNote) -> None:
        self.scenario = scenario
        self.source = fingerprint_of((images.pixels, images.labels, images.groups))
        self._note = note
        self._parties = lru_cache(maxsize=None)(lambda seed: gather(scenario, images, Seeds(seed)))

    def run(self, cell: Cell, folder: Path, passed: Passed) -> Files:
        """What a cell's folder keeps of it, in the order in which it has to be written."""
        checkpoint = Checkpoint(folder, _training(self.scenario, cell, self.source))
        outcomes, exhibits = run_cell(self.scenario, cell, self._parties(cell.seed), checkpoint, passed)
        everything = Outcomes(scenario=self.scenario.name, data=self._note, outcomes=outcomes, versions=_versions())
        return cell_files(everything, exhibits)

    def essence(self, cell: Cell) -> str:
        """All that a cell's numbers depend on, as YAML; how it is executed is left out, since it does not matter."""
        dumped = {key: value for key, value in self.scenario.only(cell).dump().items() if key != "engine"}
        # The scenario does not tell whether a stand-in stepped in, or whether the files have changed.
        return f"# images {self.source}\n{document.dump(dumped)}"


class Assignment(Settings):
    """A cell as any process can run it that finds the same images."""

    scenario: str
    """As JSON."""
    cell: str
    folder: Path
    source: str
    """A fingerprint of the images."""
    passed: tuple[tuple[tuple[int, str, str, str, int], bool], ...]

    @classmethod
    def of(cls, lab: Laboratory, cell: Cell, folder: Path, passed: Passed) -> "Assignment":
        """One cell of this laboratory."""
        return cls(
            scenario=json.dumps(lab.scenario.dump()),
            cell=cell.folder,
            folder=folder.absolute(),
            source=lab.source,
            passed=tuple(passed.items()),
        )

    @property
    def errand(self) -> Errand:
        """For the engine."""
        return Errand(name=self.cell, function=f"{__name__}:run_elsewhere", settings=self.model_dump_json())


def run_elsewhere(settings: str) -> Files:
    """Runs an assignment in this process alone. Raises DataError where the images here are other ones."""
    assignment = Assignment.model_validate_json(settings)
    lab = _laboratory(assignment.scenario)
    if lab.source != assignment.source:
        remedy = "put the same files on every machine of the cluster"
        raise DataError("the images are other ones on this machine", at="dataset", remedy=remedy)
    cell = next(cell for cell in lab.scenario.cells if cell.folder == assignment.cell)
    return lab.run(cell, assignment.folder, dict(assignment.passed))


@lru_cache(maxsize=1)
def _laboratory(scenario: str) -> Laboratory:
    # One process is one worker: here, too, numbers do not depend on the engine.
    parsed = parse({**json.loads(scenario), "engine": {"kind": "inline"}}, Trust())
    images = parsed.dataset.load()
    return Laboratory(parsed, images, _note(parsed, images))


def run_cell(
    scenario: Scenario, cell: Cell, parties: Parties, checkpoint: Checkpoint, passed: Passed
) -> tuple[tuple[Outcome, ...], tuple[Exhibit, ...]]:
    """One victim training, then every attack on it, each judged and scored."""
    shape = parties.images.pixels.shape
    plan = scenario.plan(cell, (shape[1], shape[2], shape[3]), len(parties.images.class_names))
    with plan.threaded():
        with blaming(f"defense {cell.row}"):
            plan, start = _warm_started(plan, parties.data.public)
        trained = scenario.engine.train(scenario.protocol, plan, start, parties.data, scenario.recording, checkpoint)

        observe = lru_cache(_OBSERVED)(partial(expose, plan, trained, parties.data, parties.auxiliary))
        results = [_fight(scenario, cell, duel, plan, trained, parties, passed, observe) for duel in scenario.duels]
    return tuple(outcome for outcome, _ in results), tuple(exhibit for _, exhibit in results)


def _fight(
    scenario: Scenario,
    cell: Cell,
    duel: Duel,
    plan: Plan,
    trained: Trained,
    parties: Parties,
    passed: Passed,
    observe: Callable[[Observation], Exposure],
) -> tuple[Outcome, Exhibit]:
    seeds = plan.seeds.child(duel.attack_name, duel.attack.leak, duel.round)
    with blaming(f"defense {cell.row}"):
        defended, bare = (
            # A copy, for what an attack writes into its leak is nobody else's business.
            deepcopy(observe(Observation(duel.attack.leak, duel.round, known)))
            for known in (True, False)
        )
    exposed = bare if duel.threat.knows_defense == "no" else defended
    # The one place where row numbers become the private images again.
    private = parties.images.at(exposed.rows)
    truth = Truth(private.pixels.to(plan.dtype), private.labels)
    board = Scoreboard(scenario.metrics, truth, parties.evaluator, seeds)
    trivial = anchors(truth, parties.auxiliary)
    anchored = {name: board.means(guess) for name, guess in trivial.items()}
    headline = next(metric for metric in scenario.metrics if metric.name == scenario.headline)
    key = (cell.seed, duel.threat_name, duel.attack_name, duel.attack.leak, duel.round)
    anchor = anchored[MEAN_IMAGE][headline.name]
    if anchor is None:
        raise EngineError("gives the mean image no finite score", at=f"metric {headline.name}", remedy="mend it")
    assert defended.leak.client_queries and bare.leak.client_queries, "the whole leak holds queries"
    error_anchor = board.score(_ERROR, trivial[MEAN_IMAGE]).mean
    assert error_anchor is not None, "the mean image has a squared error"
    bench = Bench(
        score=lambda guess: board.score(headline, guess),
        anchor=anchor,
        error=lambda guess: board.score(_ERROR, guess),
        error_anchor=error_anchor,
        undefended=cell.row == UNDEFENDED,
        passed=passed.get(key, True),
        defense=cell.defense,
        defended=defended.leak.client_queries,
        bare=bare.leak.client_queries,
        victim=lambda: _fingerprints(trained, exposed),
    )
    with blaming(f"attack {duel.attack_name} on {cell.row}"):
        judged = judge(duel.attack, duel.threat.view(exposed.leak, scenario.withheld), bench, seeds)
    guess = _scorable(judged, truth)
    outcome = Outcome(
        defense=cell.row,
        threat=duel.threat_name,
        attack=duel.attack_name,
        leak=duel.attack.leak,
        round=duel.round,
        seed=cell.seed,
        knows_defense=duel.threat.knows_defense,
        targets=len(truth.images),
        valid=judged.valid,
        reason=judged.reason,
        headline=headline.name,
        scores=board.scores(guess),
        anchors=anchored,
        controls=judged.controls,
        utility=Utility(accuracy=trained.accuracy),
        bytes_per_step=_bytes_per_step(trained),
        seconds=judged.seconds,
        settings=judged.reconstruction.evidence.settings,
        activity=trained.evaluation.activity,
        training_seconds=trained.standing.seconds,
        dropped=trained.standing.dropped,
    )
    assert exposed.leak.smashed is not None, "the whole leak holds the smashed data"
    return outcome, board.exhibit(headline, guess, parties.auxiliary, exposed.leak.smashed)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Whatever cannot be written inside becomes one EngineError."""
    try:
        yield
    except OSError as error:
        remedy = "free some space, or choose another folder with --out"
        at = str(error.filename or folder)
        raise EngineError(f"cannot be written ({error.strerror})", at=at, remedy=remedy) from error


def _scorable(judged: Judged, truth: Truth) -> torch.Tensor:
    """The guess; where it is no image per target, images without a score: the outcome is kept, and invalid."""
    if judged.controls["images"].ok:
        return judged.reconstruction.images.detach().cpu()
    return torch.full_like(truth.images, torch.nan)


def _warm_started(plan: Plan, public: Images) -> tuple[Plan, Standing]:
    segments = plan.segments()
    with plan.seeds.fork("warm_start"):
        frozen = plan.defense.warm_start(segments.whole, public, plan.seeds("warm_start"))
    standing = Standing(0, state_of(segments.home), state_of(segments.server))
    return plan.model_copy(update={"frozen": frozen}), standing


def _fingerprints(trained: Trained, exposed: Exposure) -> str:
    weights, servers = exposed.leak.client_weights, exposed.leak.server_segments
    assert weights is not None and servers is not None, "the whole leak holds every segment"
    segments = (fingerprint(module) for module in (weights.broadcast, *weights.returned, *servers))
    states = (fingerprint_of(state.values()) for state in (trained.standing.client, trained.standing.server))
    return "/".join((*segments, *states))


def _bytes_per_step(trained: Trained) -> BytesPerStep:
    up, down = trained.standing.bytes
    return BytesPerStep(up=up / trained.standing.steps, down=down / trained.standing.steps)


def _key(outcome: Outcome) -> tuple[int, str, str, str, int]:
    return outcome.seed, outcome.threat, outcome.attack, outcome.leak, outcome.round


def _training(scenario: Scenario, cell: Cell, source: str) -> str:
    """A fingerprint of all that the training depends on, so that another attack or metric finds it done."""
    judged_by = {"name", "engine", "threats", "attacks", "metrics", "headline"}
    dumped = {key: value for key, value in scenario.only(cell).dump().items() if key not in judged_by}
    text = document.dump({**dumped, "recording": scenario.recording.model_dump(mode="json"), "images": source})
    return hashlib.sha256(text.encode()).hexdigest()


def _note(scenario: Scenario, images: Images) -> DataNote:
    sizes = torch.bincount(torch.unique(images.groups, return_inverse=True)[1])
    return DataNote(
        kind=scenario.dataset.kind,
        stand_in=bool(images.notice),
        notice=images.notice,
        images=len(images),
        duplicates=images.duplicates,
        grouped=int(sizes[sizes > 1].sum()),
        classes=images.class_names,
    )


def _told(note: DataNote) -> str:
    counts = f"{note.images:,} images, {note.duplicates} exact copies dropped, {note.grouped} in groups"
    return f"{counts}; {note.notice}" if note.notice else counts


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("fedsplit", "torch", "numpy")}}
