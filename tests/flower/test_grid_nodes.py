"""A grid whose workers are on several nodes of a cluster, each with a network address of its own."""

import gc
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("flwr")

import ray
import torch

from fedsplit.flower.grid.grid import StickyGrid, is_from_lost_worker
from fedsplit.flower.grid.layout import Layout
from tests.engines.test_cluster import Nodes
from tests.engines.test_cluster import cluster as cluster  # noqa: PLC0414  (a fixture)
from tests.engines.test_cluster import nodes as nodes  # noqa: PLC0414  (a fixture)
from tests.flower import test_grid_app as direct
from tests.flower.test_grid import APP, exchange, message, values
from tests.flower.test_grid import pytestmark as grid_marks

pytestmark = grid_marks

LARGE = 1 << 22
"""float32 elements: many times what a socket holds."""


@pytest.fixture
def joined(nodes: Nodes) -> Iterator[Nodes]:
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
    yield nodes
    ray.shutdown()
    gc.collect()


def test_workers_on_several_nodes_get_the_same_through_the_network_and_one_that_dies_with_its_node_is_replaced(
    joined: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here all nodes are on one machine, on which memory could be shared.
    monkeypatch.setattr("fedsplit.flower.grid.hallway.host", lambda: "elsewhere")
    lines = direct.lines()
    with StickyGrid(APP, 6, Layout(workers=3)) as grid:
        for turn in range(3):
            tensor = torch.full((LARGE,), float(turn))
            replies = exchange(grid, *(message(grid, client, "train.in_place", tensor) for client in range(6)))
            assert all(bool((direct.arrays(reply)["tensor"] == turn + 1).all()) for reply in replies)
        asked = [message(grid, client, "query.who") for client in range(3)]
        raylets = [int(str(values(reply)["parent"])) for reply in exchange(grid, *asked)]
        assert len(set(raylets)) == 3
        assert set(raylets) <= set(joined.raylets)
        assert direct.lines() == lines, "none of these is to a process of the same machine"

        joined.kill(raylets[1])
        # Its worker notices after a moment.
        while not is_from_lost_worker(*exchange(grid, message(grid, 1, "query.who"))):
            time.sleep(0.05)
        assert not exchange(grid, message(grid, 2, "query.who"))[0].has_error()
        assert grid.restart_lost() == [grid.node(1), grid.node(4)]
        (reply,) = exchange(grid, message(grid, 1, "query.who"))
        assert values(reply)["parent"] in joined.raylets
