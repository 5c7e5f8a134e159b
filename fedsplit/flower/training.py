"""One training in a running simulation, from the user's process: everything into a folder, and the result out of it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedsplit.federation.errand import Errand, Files, Handed
from fedsplit.federation.evaluation import Evaluation
from fedsplit.federation.trained import Trained
from fedsplit.flower.job import Job
from fedsplit.flower.order import Order, read_files, write_files
from fedsplit.flower.session import close_session, session
from fedsplit.flower.simulation import Simulation
from fedsplit.flower.temporary import new_folder
from fedsplit.training import Training


def train(simulation: Simulation, training: Training) -> Trained:
    """The whole training, in processes that are gone when this one is."""
    running = session(simulation)
    folder = new_folder("job-", running.folder)
    job = _job(folder, training)
    try:
        job.write(training.start, training.data)
        *_, done = running.follow(Order(job=job))
    except BaseException:
        # Clients may still be busy, and what they do is of no use to anybody.
        close_session()
        raise
    shutil.rmtree(folder, ignore_errors=True)
    found = training.checkpoint.load()
    assert found is not None, "a finished training has a checkpoint"
    return Trained(*found, Evaluation.model_validate_json(done.text))


def train_here(run: Callable[[Job], Trained], training: Training) -> Trained:
    """The whole training where this process is itself the server of clients that `run` reaches."""
    folder = new_folder("fedsplit-job-")
    try:
        job = _job(folder, training)
        job.write(training.start, training.data)
        return run(job)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give(
    simulation: Simulation, errands: Sequence[Errand], handed: Handed, supplies: Handed
) -> Iterator[tuple[str, Files]]:
    """Errands in processes that are gone when this one is; (name, what it gave) of those that are kept, as they end.

    handed: what others gave that these come after. supplies: what any of them finds among what it is handed, if it
    looks for it.
    """
    if not errands:
        return
    running = session(simulation)
    given = new_folder("errands-", running.folder)
    try:
        for name, files in {**handed, **supplies}.items():
            write_files(given / name, files)
        for event in running.follow(Order(errands=tuple(errands), given=given, supplies=tuple(supplies))):
            if event.kind == "given":
                yield event.text, read_files(given / event.text)
    except BaseException:
        close_session()
        raise
    shutil.rmtree(given, ignore_errors=True)


def _job(folder: Path, training: Training) -> Job:
    return Job(
        protocol=training.protocol,
        plan=training.plan,
        recording=training.recording,
        class_names=training.data.public.class_names,
        clients=len(training.data.holdings),
        folder=folder,
        cell=training.checkpoint.cell.absolute(),
        fingerprint=training.checkpoint.fingerprint,
    )
