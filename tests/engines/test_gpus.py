"""Where Ray places what asks for GPUs. The devices are only numbers that Ray counts; what trains is on the CPU."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.errors import EngineError
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.step import ClientStep, ServerStep
from tests.engines.clusters import Nodes, running_cluster
from tests.engines.federations import federation, train
from tests.engines.test_equivalence import bits
from tests.engines.test_side_by_side import numbers, run

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address"),
]

PROTOCOL = SplitFedV2(rounds=2, batch_size=8)


class Traced(GaussianNoise):
    """Tells in a folder which GPUs every process of a training sees."""

    folder: str

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        self._note("client")

    def server_penalty(self, step: ServerStep) -> Tensor:
        self._note("server")
        return torch.zeros(())

    def _note(self, party: str) -> None:
        (Path(self.folder) / f"{party} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}").touch()


def seen(folder: Path, party: str) -> list[str]:
    """The GPUs that each process of this party saw."""
    return sorted(path.name.split(" ")[2] for path in folder.glob(f"{party} *"))


@pytest.fixture(scope="module")
def machine() -> Iterator[Nodes]:
    """Eight CPUs and two GPUs."""
    with running_cluster(cpus=8, gpus=2) as nodes:
        yield nodes


@pytest.mark.parametrize(
    ("share", "expected"),
    # Each of five clients would have a worker if there were room. What is left of two devices is no room.
    [(0.5, ["0", "0", "1", "1"]), (0.6, ["0", "1"])],
)
def test_no_device_is_promised_more_than_once_over(
    share: float, expected: list[str], machine: Nodes, tmp_path: Path
) -> None:
    defense = Traced(std=0.3, folder=str(tmp_path))
    found = train(
        Ray(address=machine.address, gpus_per_client=share), tmp_path / "found", federation(5), defense, PROTOCOL
    )
    assert seen(tmp_path, "client") == expected
    assert seen(tmp_path, "server") == ["all"]
    reference = train(Inline(), tmp_path / "expected", federation(5), defense, PROTOCOL)
    assert bits(found.standing) == bits(reference.standing)
    assert bits(found.ledger) == bits(reference.ledger)


def test_the_server_has_the_share_that_was_kept_for_it(machine: Nodes, tmp_path: Path) -> None:
    defense = Traced(std=0.3, folder=str(tmp_path))
    ray = Ray(address=machine.address, gpus_per_client=0.5, gpus_for_server=0.25)
    train(ray, tmp_path / "found", federation(5), defense, PROTOCOL)
    (server,) = seen(tmp_path, "server")
    (other,) = {"0", "1"} - {server}
    assert Counter(seen(tmp_path, "client")) == {server: 1, other: 2}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"gpus_per_client": 3},
            "engine: no machine has room for a worker with 1 CPUs and 3 GPUs; lower engine.cpus_per_client, "
            "engine.gpus_per_client or engine.gpus_for_server",
        ),
        (
            {"gpus_per_client": 2, "gpus_for_server": 0.25},
            "engine: no machine has room for a worker with 1 CPUs and 2 GPUs beside the server with 0.25 GPUs; lower "
            "engine.cpus_per_client, engine.gpus_per_client or engine.gpus_for_server",
        ),
        (
            {"gpus_for_server": 3},
            "engine.gpus_for_server: 3.0: this machine has 2 GPUs; lower it, or start the command on a machine with "
            "more",
        ),
    ],
)
def test_too_large_a_demand_is_one_line(settings: dict[str, float], line: str, machine: Nodes, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        train(Ray.model_validate({"address": machine.address, **settings}), tmp_path, federation())
    assert str(caught.value) == line


def test_cells_side_by_side_share_what_the_server_leaves(machine: Nodes, tmp_path: Path) -> None:
    traced = f"defenses={{traced: {{kind: '{__name__}:Traced', std: 0.5, folder: '{tmp_path}'}}}}"
    ray = f"engine={{kind: ray, address: '{machine.address}', gpus_per_client: 0.5, gpus_for_server: 1.0}}"
    found, said = run(tmp_path / "found", traced, ray, "seeds=[0, 1]")
    assert said[-1] == "4 cells side by side: none-seed-0, traced-seed-0, none-seed-1, traced-seed-1"
    assert len(set(seen(tmp_path, "client"))) == 1
    assert seen(tmp_path, "client") == seen(tmp_path, "server")
    expected, _ = run(tmp_path / "expected", traced, "seeds=[0, 1]", "engine={kind: inline}")
    assert numbers(found) == numbers(expected)
