"""One training in a running simulation, from the user's process: everything into a folder, and the result out of it."""

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedsplit.errors import EngineError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.errand import Errand, Files
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.flower.job import Job
from fedsplit.flower.order import ORDER, Order
from fedsplit.flower.session import close_session, session
from fedsplit.flower.simulation import Simulation
from fedsplit.protocols.base import Protocol


def train(
    simulation: Simulation,
    protocol: Protocol,
    plan: Plan,
    start: Standing,
    data: FederationData,
    recording: Recording,
    checkpoint: Checkpoint,
) -> Trained:
    """The whole training, in processes that are gone when this one is."""
    if plan.device != "cpu" and simulation.gpus_per_client == 0:
        reason, remedy = f"clients train on {plan.device} but get no GPU", "give each client a share, such as 0.25"
        raise EngineError(reason, at="engine.gpus_per_client", value=0, remedy=remedy)
    running = session(simulation)
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=running.folder))
    job = _job(folder, protocol, plan, data, recording, checkpoint)
    try:
        job.write(start, data)
        *_, done = running.follow(Order(job=job))
    except BaseException:
        # Clients may still be busy, and what they do is of no use to anybody.
        close_session()
        raise
    shutil.rmtree(folder, ignore_errors=True)
    found = checkpoint.load()
    assert found is not None and done.evaluation is not None, "a finished training has a checkpoint and a worth"
    return Trained(*found, done.evaluation)


def train_here(
    run: Callable[[Job], Trained],
    protocol: Protocol,
    plan: Plan,
    start: Standing,
    data: FederationData,
    recording: Recording,
    checkpoint: Checkpoint,
) -> Trained:
    """The whole training where this process is itself the server of clients that `run` reaches."""
    with tempfile.TemporaryDirectory(prefix="fedsplit-job-") as folder:
        job = _job(Path(folder), protocol, plan, data, recording, checkpoint)
        job.write(start, data)
        return run(job)


def give(simulation: Simulation, errands: Sequence[Errand]) -> Iterator[tuple[str, Files]]:
    """Errands in processes that are gone when this one is; (name, what it gave) as they end."""
    running = session(simulation)
    given = Path(tempfile.mkdtemp(prefix="errands-", dir=running.folder))
    try:
        for event in running.follow(Order(errands=tuple(errands), given=given)):
            if event.kind == "given":
                yield event.text, _read(given / event.text)
    except BaseException:
        close_session()
        raise
    shutil.rmtree(given, ignore_errors=True)


def _job(
    folder: Path, protocol: Protocol, plan: Plan, data: FederationData, recording: Recording, checkpoint: Checkpoint
) -> Job:
    return Job(
        protocol=protocol,
        plan=plan,
        recording=recording,
        class_names=data.public.class_names,
        clients=len(data.holdings),
        folder=folder,
        cell=checkpoint.cell.absolute(),
        fingerprint=checkpoint.fingerprint,
    )


def _read(folder: Path) -> Files:
    names = json.loads((folder / ORDER).read_text())
    return {name: (folder / name).read_bytes() for name in names}


def require_flower(kind: str) -> None:
    """Raises EngineError where Flower or Ray is not installed."""
    if importlib.util.find_spec("flwr") is None or importlib.util.find_spec("ray") is None:
        remedy = "pip install 'fedsplit[flower]', or use engine: {kind: inline}"
        raise EngineError("Flower or Ray is not installed", at="engine", value=kind, remedy=remedy)
