"""The same apps on our own grid, in a Ray that runs."""

from collections.abc import Callable
from functools import cache

from fedsplit.errors import EngineError
from fedsplit.federation.trained import Trained
from fedsplit.flower.equipment import equip
from fedsplit.flower.errands import Spreader, spread, started_board
from fedsplit.flower.grid.grid import StickyGrid
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.grid.room import room
from fedsplit.flower.job import Job
from fedsplit.flower.order import Order
from fedsplit.flower.reservation import reserved
from fedsplit.flower.server_app import Runner, run_job
from fedsplit.flower.simulation import Progress, Sticky

_APP = "fedsplit.flower.client_app:app"


def serve_in(simulation: Sticky, serve: Callable[[Runner, Spreader], None]) -> None:
    """Hands `serve` the means to run jobs and to do errands in a running Ray."""
    # Before any worker: the server is where it is, while workers go where they find room.
    with reserved(simulation.gpus_for_server):
        _serve(simulation, serve)


def _serve(simulation: Sticky, serve: Callable[[Runner, Spreader], None]) -> None:
    workers = _workers(simulation)
    grids, board = _Grids(workers), cache(started_board)

    def train(job: Job) -> Trained:
        grid = grids.running(job.clients)
        nodes = {client: grid.node(client) for client in range(job.clients)}
        equip(job, grid)

        def restart() -> None:
            grid.restart_lost()
            equip(job, grid)

        return run_job(job, grid, nodes, grid.replies, restart)

    def errands(order: Order, given: Callable[[str], None], show: Callable[[Progress], None]) -> None:
        # Workers of a grid hold what errands need.
        grids.close()
        spread(board(), order, given, show, workers)

    serve(train, errands)


class _Grids:
    """At most one grid, started when a training needs it, and kept for the next one of as many clients."""

    def __init__(self, workers: Layout) -> None:
        self._workers = workers
        self._grid: StickyGrid | None = None
        self._clients = 0

    def running(self, clients: int) -> StickyGrid:
        if self._grid is None or self._clients != clients:
            self.close()
            self._grid, self._clients = StickyGrid(_APP, clients, self._workers), clients
        return self._grid

    def close(self) -> None:
        if self._grid is not None:
            self._grid.close()
            self._grid = None


def _workers(simulation: Sticky) -> Layout:
    """As many as there is room for, or fewer where the user says so. Raises EngineError where there is none."""
    one = Layout(
        workers=1,
        cpus_per_worker=simulation.cpus_per_client,
        gpus_per_worker=simulation.gpus_per_client,
        gpus_for_server=simulation.gpus_for_server,
    )
    fitting = room(one)
    if not fitting:
        needs = f"{simulation.cpus_per_client} CPUs and {simulation.gpus_per_client:g} GPUs"
        beside = f" beside the server with {simulation.gpus_for_server:g} GPUs" if simulation.gpus_for_server else ""
        remedy = "lower engine.cpus_per_client, engine.gpus_per_client or engine.gpus_for_server"
        raise EngineError(f"no machine has room for a worker with {needs}{beside}", at="engine", remedy=remedy)
    return one.model_copy(update={"workers": min(simulation.workers or fitting, fitting)})
