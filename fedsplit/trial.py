"""One cell: a victim is trained; each attack then tries what its threat lets it see, is judged, and scored."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from math import isfinite

import torch

from fedsplit.auxiliary import AuxiliaryImages
from fedsplit.controls import Bench, Judged, judge
from fedsplit.engines.base import Engine
from fedsplit.errors import DataError, EngineError, blaming
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.deployment import answering
from fedsplit.federation.exposure import Exposure, Observation, victims
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.trained import Standing, Trained
from fedsplit.limits import limits
from fedsplit.metrics.mse import Mse
from fedsplit.numerics.fingerprint import fingerprint, fingerprint_of
from fedsplit.parties import Parties
from fedsplit.records.exhibit import Exhibit
from fedsplit.records.images import Images
from fedsplit.records.leak import Asset, Query
from fedsplit.records.outcome import BytesPerStep, Outcome, Utility
from fedsplit.records.truth import Truth
from fedsplit.scenario import UNDEFENDED, Cell, Duel, Scenario
from fedsplit.scoring import MEAN_IMAGE, UNGUIDED, Scoreboard, anchors, mean_image, of_classes
from fedsplit.seeding import Seeds
from fedsplit.training import Training
from fedsplit.victim import Victim

_ERROR = Mse()


def train(scenario: Scenario, cell: Cell, parties: Parties, engine: Engine, checkpoint: Checkpoint) -> Victim:
    """The whole training of one cell, from the checkpoint on."""
    shape = parties.images.pixels.shape
    plan = scenario.plan(cell, (shape[1], shape[2], shape[3]), len(parties.images.class_names))
    with plan.threaded():
        with blaming(f"defense {cell.row}"):
            plan, start = _warm_started(plan, parties.data.public)
        if (hijacker := scenario.hijacker(cell)) is not None:
            with blaming(f"attack {cell.hijacker}"):
                start = replace(start, server_memory=hijacker.prepare(parties.auxiliary[AuxiliaryImages()]))
        recording = scenario.recording(cell)
        training = Training(scenario.protocol, plan, start, parties.data, recording, checkpoint)
        trained = engine.train(training)
        with blaming(f"defense {cell.row}"):
            return Victim(plan, answering(plan, trained, parties.data), parties)


def fight(scenario: Scenario, cell: Cell, duel: Duel, victim: Victim, *, passed: bool) -> tuple[Outcome, Exhibit]:
    """One attack on the victim of a cell. passed: whether it is valid on the undefended row."""
    with victim.plan.threaded():
        return _fight(scenario, cell, duel, victim, passed=passed)


def _fight(scenario: Scenario, cell: Cell, duel: Duel, victim: Victim, *, passed: bool) -> tuple[Outcome, Exhibit]:
    plan, trained, parties = victim.plan, victim.trained, victim.parties
    seeds = plan.seeds.child(duel.attack_name, duel.leak, duel.round)
    own, ideal = parties.auxiliary[duel.threat.auxiliary], parties.auxiliary[AuxiliaryImages()]
    looked_at = Observation(duel.leak, duel.round, defended=True, repeats=duel.attack.repeats)
    with blaming(f"defense {cell.row}"):
        clients = victims(plan, trained, parties.data, duel.leak, duel.round)
        defended, bare = (
            # A copy, for what an attack writes into its leak is nobody else's business.
            [
                deepcopy(victim.observe(duel.threat.auxiliary, replace(looked_at, defended=known, client=client)))
                for client in clients
            ]
            for known in (True, False)
        )
    # What the deployed model answers is what there is to see, whoever asks.
    exposed = bare if duel.threat.knows_defense == "no" and duel.leak != "model" else defended
    wanted = duel.attack.wanted(plan.classes)
    truth = _truth(parties, exposed, wanted, plan, seeds)
    board = Scoreboard(scenario.metrics_of(duel.attack.level), truth, parties.evaluator, seeds)
    trivial = anchors(truth, own, ideal, seeds("anchors"))
    anchored = {name: board.means(guess) for name, guess in trivial.items()}
    headline = scenario.headline_of(duel.attack.level)
    anchor = anchored[MEAN_IMAGE][headline.name]
    if anchor is None:
        raise EngineError("gives the mean image no finite score", at=f"metric {headline.name}", remedy="mend it")
    error_anchor = board.score(_ERROR, mean_image(truth, ideal)).mean
    assert error_anchor is not None, "the mean image has a squared error"
    bench = Bench(
        # Whether the attack works is asked of the classes that it attacked.
        score=lambda guess: board.score(headline, guess, given_classes=True),
        anchor=anchor,
        error=lambda guess: board.score(_ERROR, guess),
        error_anchor=error_anchor,
        undefended=cell.row == UNDEFENDED,
        passed=passed,
        defense=cell.defense,
        defended=_queries(defended[0]),
        bare=_queries(bare[0]),
        victim=lambda: "/".join(_fingerprints(trained, one) for one in exposed),
    )
    with blaming(f"attack {duel.attack_name} on {cell.row}"):
        leaks = [replace(duel.threat.view(one.leak, scenario.withheld), wanted=wanted) for one in exposed]
        judged = judge(duel.attack, leaks, bench, seeds)
    if judged.unguided is not None:
        anchored = {UNGUIDED: board.means(judged.unguided), **anchored}
    guess = _scorable(judged, truth)
    outcome = Outcome(
        defense=cell.row,
        threat=duel.threat_name,
        attack=duel.attack_name,
        leak=duel.leak,
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
        settings=judged.settings,
        activity=trained.evaluation.activity,
        information=trained.evaluation.information,
        training_seconds=trained.standing.seconds,
        dropped=trained.standing.dropped,
        level=duel.attack.level,
        evaluator_accuracy=_evaluator_accuracy(scenario, duel, parties),
        privacy=_privacy(scenario, duel, victim),
        hijacked=cell.hijacker is not None,
        limits=limits(scenario.bounds, duel, cell.defense, defended, truth.images),
    )
    # Nobody sends anything about a class.
    shown = torch.cat([_smashed(one) for one in exposed]) if wanted is None else torch.zeros(len(truth.labels), 1)
    before = [one.clean for one in exposed if wanted is None and one.clean is not None]
    return outcome, board.exhibit(headline, guess, own, shown, torch.cat(before) if before else None)


def _truth(
    parties: Parties, exposed: Sequence[Exposure], wanted: torch.Tensor | None, plan: Plan, seeds: Seeds
) -> Truth:
    # The one place where row numbers become the private images again.
    if wanted is None:
        private = parties.images.at(torch.cat([one.rows for one in exposed]))
        return Truth(private.pixels.to(plan.dtype), private.labels)
    everything = parties.images.at(torch.cat([holding.rows for holding in parties.data.holdings]))
    if absent := sorted({*wanted.tolist()} - {*everything.labels.tolist()}):
        name = parties.images.class_names[absent[0]]
        raise DataError("no client has an image of this class", at="attacks", value=name, remedy="use more images")
    pixels, labels = everything.pixels.to(plan.dtype), wanted.repeat(len(exposed))
    return Truth(pixels[of_classes(everything.labels, labels, seeds("examples"))], labels, (pixels, everything.labels))


def _evaluator_accuracy(scenario: Scenario, duel: Duel, parties: Parties) -> float | None:
    asked = any(metric.evaluated for metric in scenario.metrics_of(duel.attack.level))
    known = parties.evaluator is not None and isfinite(parties.evaluator.accuracy)
    return parties.evaluator.accuracy if asked and known and parties.evaluator is not None else None


def _privacy(scenario: Scenario, duel: Duel, victim: Victim) -> str:
    """What the defense proves of the weights. It covers those who see nothing but weights of the training."""
    # To say so takes a copy of the whole model, which may be large.
    if not victim.plan.defense.claims_privacy:
        return ""
    seen = Asset.CUT_GRADIENTS in duel.threat.assets or duel.leak == "training"
    spoilt = f"the adversary of {duel.threat_name} sees what crosses in training, without noise" if seen else ""
    examples = tuple(len(holding) for holding in victim.parties.data.holdings)
    draws = scenario.protocol.draws(victim.plan, examples)
    return victim.plan.defense.privacy(victim.plan.segments(), draws, spoilt)


def _queries(exposed: Exposure) -> Query:
    assert exposed.leak.client_queries is not None, "the whole leak holds queries"
    return exposed.leak.client_queries


def _smashed(exposed: Exposure) -> torch.Tensor:
    assert exposed.leak.smashed is not None, "the whole leak holds the smashed data"
    return exposed.leak.smashed


def _scorable(judged: Judged, truth: Truth) -> torch.Tensor:
    """The guess; where it is no image per target, images without a score: the outcome is kept, and invalid."""
    if judged.controls["images"].ok:
        return judged.images
    return torch.full_like(truth.images, torch.nan)


def _warm_started(plan: Plan, public: Images) -> tuple[Plan, Standing]:
    segments = plan.segments()
    with plan.seeds.fork("warm_start"):
        frozen = plan.defense.warm_start(segments.whole, public, plan.seeds("warm_start"))
    standing = Standing(0, state_of(segments.home.whole), state_of(segments.server))
    return plan.model_copy(update={"frozen": frozen}), standing


def _fingerprints(trained: Trained, exposed: Exposure) -> str:
    weights, servers = exposed.leak.client_weights, exposed.leak.server_segments
    assert weights is not None and servers is not None, "the whole leak holds every segment"
    held = (
        weights.broadcast,
        *weights.returned,
        *servers,
        *([] if exposed.leak.model is None else [exposed.leak.model]),
    )
    segments = (fingerprint(module) for module in held)
    states = (fingerprint_of(state.values()) for state in (*trained.standing.deployed, trained.standing.server))
    return "/".join((*segments, *states))


def _bytes_per_step(trained: Trained) -> BytesPerStep:
    up, down = trained.standing.bytes
    return BytesPerStep(up=up / trained.standing.steps, down=down / trained.standing.steps)
