"""fedsplit as a Flower app: what `flwr run` runs as the server, in Flower's simulation or on a deployment."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from fedsplit import drawing, terminal
from fedsplit.engines.base import Engine
from fedsplit.errors import FedsplitError, ScenarioError
from fedsplit.federation.trained import Trained
from fedsplit.flower.job import Job
from fedsplit.flower.nodes import Gather, RunConfig, server_app
from fedsplit.flower.training import train_here
from fedsplit.reading import load
from fedsplit.training import Training


def serve(gather: Gather, config: RunConfig) -> None:
    """Runs the scenario of the run's configuration over the nodes that Flower has."""
    try:
        # As the engine of the same name: the same protocols can be run, and the run's folder says so.
        scenario = load(_scenario_file(str(config["scenario"])), assignments=[*_edits(config), "engine={kind: flower}"])
        nodes = gather(scenario.partition.clients)

        def run(job: Job) -> Trained:
            nodes.entrust(job)
            return nodes.run(job)

        out = str(config["out"]) or f"runs/{scenario.name}"
        terminal.run(scenario, Path(out).absolute(), engine=Given(run=run))
        drawing.draw(Path(out).absolute())
    except FedsplitError as error:
        print(f"fedsplit: {error}", flush=True)
        # Once more for Flower, which would take the run for finished; it prints whence an error came, so that goes.
        raise error.with_traceback(None) from None


class Given(Engine):
    """Trains on what Flower gave its server app."""

    grains = frozenset({"round"})

    run: Callable[[Job], Trained]

    def train(self, training: Training) -> Trained:
        """The whole training."""
        return train_here(self.run, training)


def _edits(config: RunConfig) -> list[str]:
    try:
        edits = shlex.split(str(config["set"]))
    except ValueError as error:
        remedy = "quote it as after --set on a command line"
        raise ScenarioError(f"cannot be read ({error})", at="set", value=config["set"], remedy=remedy) from error
    return [*edits, f"dataset.root={config['root']}"] if config["root"] else edits


def _scenario_file(name: str) -> Path:
    """Where a file of the bundle lies: Flower has put the bundle's folder on the path."""
    found = (Path(folder, name) for folder in sys.path)
    return next((path for path in found if path.is_file()), Path(name))


app = server_app(serve)
