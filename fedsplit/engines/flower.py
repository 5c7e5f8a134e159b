"""Flower's stock simulation: clients are Flower clients, spread by Ray over processes, GPUs and machines
(Beutel, Topal, Mathur et al., arXiv 2007.14390, 2020)."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveInt

from fedsplit.engines.base import Engine
from fedsplit.errors import EngineError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.flower.job import Job
from fedsplit.flower.session import close_session, session
from fedsplit.flower.simulation import Simulation
from fedsplit.protocols.base import Protocol


class Flower(Engine):
    """Trains clients side by side. It computes what `inline` computes; a round waits about a tenth of a second."""

    grains = frozenset({"round"})

    workers: PositiveInt | None = None
    """Processes that train clients; by default as many as the CPUs allow. Flower itself keeps at most four more
    than the machine has CPUs busy. With the environment's RAY_ADDRESS, the cluster's size decides."""
    cpus_per_client: PositiveInt = 1
    """CPUs that Ray sets aside for one client."""
    gpus_per_client: NonNegativeFloat = 0.0
    """Share of one GPU for one client; 0.25 puts four clients on each GPU. It limits their number, not their memory."""

    def train(
        self,
        protocol: Protocol,
        plan: Plan,
        start: Standing,
        data: FederationData,
        recording: Recording,
        checkpoint: Checkpoint,
    ) -> Trained:
        """The whole training, in processes that are gone when this one is."""
        self._check(plan)
        running = session(self._simulation(len(data.holdings)))
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=running.folder))
        job = Job(
            protocol=protocol,
            plan=plan,
            recording=recording,
            class_names=data.public.class_names,
            folder=folder,
            cell=checkpoint.cell.absolute(),
            fingerprint=checkpoint.fingerprint,
        )
        try:
            job.write(start, data)
            done = running.run(job)
        except BaseException:
            # Clients may still be busy, and what they do is of no use to anybody.
            close_session()
            raise
        shutil.rmtree(folder, ignore_errors=True)
        found = checkpoint.load()
        assert found is not None and done.evaluation is not None, "a finished training has a checkpoint and a worth"
        return Trained(*found, done.evaluation)

    def _check(self, plan: Plan) -> None:
        if importlib.util.find_spec("flwr") is None or importlib.util.find_spec("ray") is None:
            remedy = "pip install 'fedsplit[flower]', or use engine: {kind: inline}"
            raise EngineError("Flower or Ray is not installed", at="engine", value=self.kind, remedy=remedy)
        if plan.device != "cpu" and self.gpus_per_client == 0:
            remedy = "give each client a share, such as 0.25"
            raise EngineError(
                f"clients train on {plan.device} but get no GPU", at="engine.gpus_per_client", value=0, remedy=remedy
            )

    def _simulation(self, clients: int) -> Simulation:
        cpus = len(os.sched_getaffinity(0))
        workers = self.workers or max(1, cpus // self.cpus_per_client)
        return Simulation(
            clients=clients,
            workers=None if "RAY_ADDRESS" in os.environ else min(workers, clients),
            cpus_per_client=self.cpus_per_client,
            gpus_per_client=self.gpus_per_client,
        )
