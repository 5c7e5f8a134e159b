"""What a scenario must hold as a whole, beyond what each key must: checked before any compute."""

import torch
from torch import nn

from fedsplit.attacks.base import ActiveAttack, Attack
from fedsplit.datasets.base import Dataset
from fedsplit.errors import ScenarioError
from fedsplit.records.images import Shape
from fedsplit.records.leak import Level
from fedsplit.scenario import UNDEFENDED, Cell, Scenario
from fedsplit.split import Segments


def check(scenario: Scenario) -> None:
    """Raises ScenarioError for the first thing that cannot be."""
    for one in (
        _check_seeds,
        _check_labels,
        _check_metrics,
        _check_bounds,
        _check_hijacking,
        _check_attacks,
        _check_auxiliary,
        _check_public,
        _check_engine,
        _check_device,
    ):
        one(scenario)


def check_cuts(scenario: Scenario, shape: Shape, classes: int, *, device: str = "meta") -> None:
    """Builds every row's segments on this device; ScenarioError where a model cannot be cut so, or where an attack
    cannot rebuild such images."""
    for index, attack in enumerate(scenario.attacks):
        if reason := attack.unfit(shape):
            remedy = "leave this attack out, or choose another image_size"
            raise ScenarioError(reason, at=f"attacks.{index}", value=attack.kind, remedy=remedy)
    for row, (name, defense) in enumerate(scenario.rows):
        try:
            segments = tried_out(scenario, row, shape, classes, device)
        except ScenarioError as error:
            raise ScenarioError(f"{error} (in row {name!r})") from error
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            # Layers refuse sizes in any of these ways; torch has no error of its own for it.
            cause = str(error).partition("\n")[0].removesuffix("Exception raised from ")
            reason = f"cannot be built for images of shape {shape} in row {name!r} ({cause})"
            raise ScenarioError(reason, at="model", value=scenario.model.kind, remedy="choose other sizes") from error
        if reason := defense.refuses(segments):
            remedy = "change this row, `cut` or `head`"
            raise ScenarioError(reason, at=f"defenses.{name}", value=defense.kind, remedy=remedy)
        _check_client(scenario, name, segments.client)


def tried_out(scenario: Scenario, row: int, shape: Shape, classes: int, device: str) -> Segments:
    """The segments of a row as they are before training.

    device: on "meta" they take neither memory nor compute, but to ask for shapes there imports torch's compiler, which
    takes longer than to build most models on "cpu".
    """
    plan = scenario.plan(Cell(*scenario.rows[row], 0), shape, classes).model_copy(update={"device": "cpu"})
    with torch.device(device):
        return plan.segments()


def _check_client(scenario: Scenario, row: str, client: nn.Module) -> None:
    for index, attack in enumerate(scenario.attacks):
        if reason := attack.refuses(client):
            remedy = "leave this attack out, or cut the model before that block"
            raise ScenarioError(f"{reason} (in row {row!r})", at=f"attacks.{index}", value=attack.kind, remedy=remedy)


def _check_seeds(scenario: Scenario) -> None:
    if len(set(scenario.seeds)) < len(scenario.seeds):
        raise ScenarioError("names a seed twice", at="seeds", value=scenario.seeds, remedy="name each seed once")
    undefended = scenario.defenses[UNDEFENDED].kind
    if undefended != UNDEFENDED:
        remedy = "give this row another name: `none` is the undefended one"
        raise ScenarioError("is defended", at=f"defenses.{UNDEFENDED}", value=undefended, remedy=remedy)


def _check_labels(scenario: Scenario) -> None:
    for name, defense in scenario.rows:
        if scenario.head is not None and defense.needs_server_labels:
            remedy = "leave `head` out, or this row"
            reason = f"keeps the labels at the client, and row {name!r} needs them at the server"
            raise ScenarioError(reason, at="head", value=scenario.head, remedy=remedy)


def _check_metrics(scenario: Scenario) -> None:
    names = [metric.name for metric in scenario.metrics]
    if len(set(names)) < len(names):
        raise ScenarioError("names a metric twice", at="metrics", value=names, remedy="name each metric once")
    levels = {attack.level for attack in scenario.attacks}
    if "instance" in levels:
        _check_headline(scenario, "instance", "headline", scenario.headline)
    if "class" in levels:
        _check_headline(scenario, "class", "class_headline", scenario.class_headline)
    for index, metric in enumerate(scenario.metrics):
        if metric.evaluated and not scenario.roles.evaluation:
            reason = "needs a network trained on evaluation rows, and there are none"
            raise ScenarioError(reason, at=f"metrics.{index}", value=metric.name, remedy="set roles.evaluation above 0")


def _check_headline(scenario: Scenario, level: Level, at: str, name: str) -> None:
    found = {metric.name: metric for metric in scenario.metrics_of(level)}
    if name not in found:
        what = "images" if level == "instance" else "classes"
        fitting = [metric.name for metric in found.values() if metric.per_target]
        remedy = f"use one of {', '.join(fitting)}, or add it to metrics" if fitting else "add it to metrics"
        raise ScenarioError(f"is none of the metrics of guesses at {what}", at=at, value=name, remedy=remedy)
    if not found[name].per_target:
        reason = "scores a whole set: permuting the leak would not show in it"
        raise ScenarioError(reason, at=at, value=name, remedy="use a metric with a score per image")


def _check_bounds(scenario: Scenario) -> None:
    measured = [metric.name for metric in scenario.metrics]
    titles = [bound.title for bound in scenario.bounds]
    for index, bound in enumerate(scenario.bounds):
        at = f"bounds.{index}"
        if bound.title in titles[:index]:
            raise ScenarioError("is named twice", at=at, value=bound.title, remedy="name each bound once")
        if bound.metric not in measured:
            remedy = f"add {{kind: {bound.metric}}} to metrics"
            raise ScenarioError(
                f"is about {bound.metric}, which is not measured", at=at, value=bound.kind, remedy=remedy
            )


def _check_attacks(scenario: Scenario) -> None:
    for index, attack in enumerate(scenario.attacks):
        at = f"attacks.{index}"
        if len(set(attack.rounds)) < len(attack.rounds):
            remedy = "name each round once"
            raise ScenarioError("names a round twice", at=f"{at}.rounds", value=attack.rounds, remedy=remedy)
        if late := [number for number in attack.rounds if number > scenario.protocol.rounds]:
            remedy = f"name rounds up to protocol.rounds = {scenario.protocol.rounds}"
            raise ScenarioError("is after the last round", at=f"{at}.rounds", value=late[0], remedy=remedy)
        if attack.leak == "training" and scenario.targets.source == "test":
            reason = "test rows are never trained on"
            raise ScenarioError(reason, at=f"{at}.leak", value="training", remedy="use targets.from: private")
        if not any(scenario.feeds(threat, attack) for threat in scenario.threats):
            remedy = "add a threat that has it, or attack the leak that holds it"
            raise ScenarioError(_hunger(scenario, attack), at=at, value=attack.kind, remedy=remedy)


def _check_auxiliary(scenario: Scenario) -> None:
    for index, threat in enumerate(scenario.threats):
        at, own = f"threats.{index}.auxiliary", threat.auxiliary
        _check_other(
            scenario,
            own.dataset,
            at,
            "leave it out: without it the adversary has images like these that no client holds",
        )
        if threat.active and own.title:
            remedy = "leave it out, or use a threat that follows the protocol"
            reason = "does not reach an active attack, which prepares before it is one adversary's or another's"
            raise ScenarioError(reason, at=at, value=own.title, remedy=remedy)


def _check_public(scenario: Scenario) -> None:
    dataset = scenario.public.dataset
    remedy = "leave it out: without it images like these are public that no client holds, those of roles.public"
    _check_other(scenario, dataset, "public", remedy)
    for name, defense in scenario.rows:
        if defense.needs_public_images and dataset is None and not scenario.roles.public:
            reason = f"leaves no public image, and row {name!r} learns from them"
            remedy = "raise it, or let public.dataset be another data set"
            raise ScenarioError(reason, at="roles.public", value=scenario.roles.public, remedy=remedy)


def _check_other(scenario: Scenario, dataset: Dataset | None, at: str, remedy: str) -> None:
    if dataset is not None and _files(dataset) == _files(scenario.dataset):
        reason = "is the data set that is attacked, and some of its images are the clients'"
        raise ScenarioError(reason, at=f"{at}.dataset", value=dataset.kind, remedy=remedy)


def _files(dataset: Dataset) -> dict[str, object]:
    """What says which images a data set has, whatever is made of them."""
    return {"kind": dataset.kind, **dataset.model_dump(exclude={"image_size", "limit", "near_duplicates", "stand_in"})}


def _check_hijacking(scenario: Scenario) -> None:
    protocol = scenario.protocol
    for index, attack in enumerate(scenario.attacks):
        if not isinstance(attack, ActiveAttack):
            continue
        at = f"attacks.{index}"
        if not any(threat.active for threat in scenario.threats):
            reason = f"is active, but {' and '.join(threat.kind for threat in scenario.threats)} follows the protocol"
            remedy = "add {kind: malicious_server} to threats"
            raise ScenarioError(reason, at=at, value=attack.kind, remedy=remedy)
        if protocol.grain == "round":
            reason = f"hijacks the one server of all clients, and in {protocol.kind} each has a copy of its own"
            remedy = "use protocol.kind sequential, splitfed_v2 or parallel"
            raise ScenarioError(reason, at=at, value=attack.kind, remedy=remedy)
        if scenario.rounds(attack) != (protocol.rounds,):
            reason = f"is active, so what it knows after the last round, {protocol.rounds}, is all that is kept of it"
            raise ScenarioError(reason, at=f"{at}.rounds", value=attack.rounds, remedy="leave rounds out")


def _hunger(scenario: Scenario, attack: Attack) -> str:
    needs = ", ".join(sorted(attack.needs))
    missing = (
        f"{threat.kind} lacks {', '.join(sorted(attack.needs - scenario.offered(threat, attack)))}"
        for threat in scenario.threats
        if threat.active or not isinstance(attack, ActiveAttack)
    )
    return f"needs {needs}, but in the {attack.leak} leak {' and '.join(missing)}"


def _check_engine(scenario: Scenario) -> None:
    grain = scenario.protocol.grain
    if grain not in scenario.engine.grains:
        reason = f"cannot run {scenario.protocol.kind}, which crosses the cut at every {grain}"
        remedy = "use protocol.kind splitfed_v1, or `fedsplit simulate` with engine ray or inline"
        raise ScenarioError(reason, at="engine.kind", value=scenario.engine.kind, remedy=remedy)


def _check_device(scenario: Scenario) -> None:
    _, _, number = scenario.device.partition(":")
    share = scenario.engine.gpu_share
    if number and share is not None:
        reason = f"names one GPU, but engine {scenario.engine.kind} hands them out"
        remedy = "use device: cuda, and CUDA_VISIBLE_DEVICES for what there is to hand out"
        raise ScenarioError(reason, at="device", value=scenario.device, remedy=remedy)
    if scenario.device != "cpu" and share == 0:
        reason, remedy = f"leaves clients that compute on {scenario.device} without a GPU", "use a share, such as 0.25"
        raise ScenarioError(reason, at="engine.gpus_per_client", value=0, remedy=remedy)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if scenario.device != "cpu" and int(number or 0) >= there:
        raise ScenarioError("is not to be had here", at="device", value=scenario.device, remedy="use device: cpu")
