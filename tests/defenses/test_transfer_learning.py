from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedsplit.checks import check_cuts
from fedsplit.defenses.base import Defense
from fedsplit.defenses.bido import Bido
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.dp_sgd import DpSgd
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.nopeek import NoPeek
from fedsplit.defenses.sca import Sca
from fedsplit.defenses.transfer_learning import TransferLearning
from fedsplit.errors import DataError, ScenarioError
from fedsplit.federation.optimizer import Adam, StochasticGradientDescent
from fedsplit.federation.plan import Plan
from fedsplit.models.base import Model
from fedsplit.models.convolutional import Convolutional
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.models.resnet18 import ResNet18
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.images import Images
from fedsplit.simulate import simulate
from tests import tiny
from tests.federation.builders import SHAPE, assert_same, bits, federation, images, joined, plan_of, started, train

PROTOCOLS: list[Protocol] = [
    SplitFedV1(rounds=2, batch_size=6),
    SplitFedV2(rounds=2, batch_size=6),
    Sequential(rounds=2, batch_size=6),
    Parallel(rounds=2, batch_size=6),
    Parallel(rounds=2, batch_size=6, sync="never"),
]
OPTIMIZERS: list[Adam | StochasticGradientDescent] = [
    Adam(learning_rate=0.01, weight_decay=0.1, state="keep"),
    StochasticGradientDescent(learning_rate=0.1, momentum=0.9, weight_decay=0.1),
]
LENET: dict[str, Any] = {"model": LeNet(channels=2, batch_norm=True), "cut": "relu2"}
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 3}


class Darkened(Model):
    """Begins with a block that has nothing to learn."""

    def blocks(self, shape, classes):
        return OrderedDict([("darkened", nn.Softsign()), *Linear(width=5).blocks(shape, classes).items()])


def learning(freeze: str | int, **settings: Any) -> TransferLearning:
    return TransferLearning.model_validate({"freeze": freeze, **SMALL, **settings})


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The blocks of which anything changed, by any bit."""
    assert before.keys() == after.keys()
    return {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}


def history(plan: Plan, folder: Path, protocol: Protocol) -> tuple[set[str], set[str]]:
    """The blocks that the warm start moved, and those that the training moved."""
    segments, data = plan.segments(), federation()
    drawn = {**segments.home.whole.state_dict(), **segments.server.state_dict()}
    _, start = started(plan, data.public)
    trained = train(folder, plan, data, protocol)  # type: ignore[arg-type]
    held = {**start.client, **start.server}
    return moved(drawn, held), moved(held, joined(trained.standing))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: f"{each.kind}-{getattr(each, 'sync', '')}")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.kind)
@pytest.mark.parametrize("freeze", ["norm1", 6])
def test_frozen_blocks_never_move_to_the_last_bit_buffers_included(
    protocol: Protocol, optimizer: Any, freeze: str | int, tmp_path: Path
) -> None:
    plan = plan_of(**LENET, defense=learning(freeze), optimizer=optimizer)
    pretrained, trained = history(plan, tmp_path, protocol)
    assert pretrained == {"conv1", "norm1", "conv2", "norm2", "dense1", "dense2"}
    frozen = {"norm1": {"conv1", "norm1"}, 6: {"conv1", "norm1", "conv2", "norm2"}}[freeze]
    assert trained == {"conv1", "norm1", "conv2", "norm2", "dense1", "dense2", "logits"} - frozen


@pytest.mark.parametrize(
    ("model", "cut", "freeze", "frozen"),
    [
        (Convolutional(features=(2, 3), hidden=4, dropout=0.5), "norm1", "norm2", {"conv1", "norm1", "conv2", "norm2"}),
        (Linear(width=5), "rows", "rows", {"rows"}),
        (Linear(width=5), "rows", 2, {"rows", "hidden"}),
    ],
)
def test_on_either_side_of_the_cut(model: Any, cut: str, freeze: Any, frozen: set[str], tmp_path: Path) -> None:
    plan = plan_of(model=model, cut=cut, defense=learning(freeze), optimizer=OPTIMIZERS[0])
    owning = {name.split(".")[0] for name in plan.segments().whole.state_dict()}
    assert history(plan, tmp_path, PROTOCOLS[0]) == (owning - {"logits"}, owning - frozen)


def test_normalisation_inside_a_residual_block_is_frozen_too(tmp_path: Path) -> None:
    plan = plan_of(
        model=ResNet18(stem="small"), cut="layer1_block1", defense=learning("layer1_block1", epochs=1, batch_size=6)
    )
    data = federation((6,))
    frozen, start = started(plan, data.public)
    assert frozen.frozen == ("conv1", "norm1", "layer1_block1")
    standing = train(tmp_path, plan, data, SplitFedV1(rounds=1, batch_size=6)).standing
    assert_same(standing.client, start.client, 0.0)
    assert "layer1_block2" in moved(start.server, standing.server)


@pytest.mark.parametrize(
    ("members", "frozen"),
    [
        ((Sca(features=(3, 4)), learning("sparse2_norm")), {"sparse1", "sparse1_norm", "sparse2", "sparse2_norm"}),
        ((Sca(features=(3, 4), backpropagate=False), learning("sparse2")), {"sparse1", "sparse1_norm", "sparse2"}),
        ((LowRank(rank=3), learning("rows_factor")), {"rows", "rows_factor"}),
        ((learning("rows_factor"), LowRank(rank=3)), {"rows", "rows_factor"}),
        ((learning("rows"), NoPeek(weight=1.0), Bido(input_weight=1.0, label_weight=1.0)), {"rows"}),
        ((learning("rows"), DpSgd(noise_multiplier=1.0), GaussianNoise(std=0.5)), {"rows"}),
    ],
    ids=lambda each: "-".join(str(one.kind) for one in each) if isinstance(each, tuple) else "",
)
def test_no_other_member_of_its_row_moves_what_is_frozen(
    members: tuple[Defense, ...], frozen: set[str], tmp_path: Path
) -> None:
    plan = plan_of(defense=Composition(members=members), optimizer=OPTIMIZERS[0])
    owning = {name.split(".")[0] for name in plan.segments().whole.state_dict()}
    _, trained = history(plan, tmp_path, PROTOCOLS[0])
    assert trained == owning - frozen
    assert frozen < owning


def test_noise_behind_a_frozen_block_still_waits_for_the_end_of_training() -> None:
    defense = Composition(members=(GaussianNoise(std=0.5, at=("conv1", "norm1")), learning("relu1")))
    plan, start = started(plan_of(**LENET, defense=defense), images(6, seed=98))
    assert plan.frozen == ("conv1", "norm1")
    segment = plan.prepare(plan.segments().client, start.client, training=True)
    assert {name for name, block in segment.blocks() if not block.training} == {"conv1", "norm1"}


def parity(rows: int, seed: int) -> Images:
    """Two bright or dark halves; the class says whether they differ, which no linear map of the pixels tells."""
    rng = Generator().manual_seed(seed)
    halves = torch.randint(2, (rows, 2), generator=rng)
    pixels = 0.3 * torch.rand((rows, *SHAPE), generator=rng) + 0.6 * halves.repeat_interleave(4, 1)[:, None, :, None]
    return Images(pixels, 3 + (halves[:, 0] != halves[:, 1]).long(), torch.arange(rows), ("", "", "", "a", "b"))


def test_its_features_know_the_classes_of_the_public_images_more_of_them_than_the_model_has() -> None:
    def told(defense: Defense) -> float:
        """By the last hidden features: the share of fresh images that are nearer to the mean of their own class."""
        plan = plan_of(defense=defense, model=Linear(width=12))
        segments = plan.segments()
        defense.warm_start(segments.whole, parity(120, seed=1), Generator().manual_seed(0))
        hidden = nn.Sequential(*(block for _, block in segments.whole.blocks()))[:-1].eval()
        fresh = parity(200, seed=2)
        with torch.no_grad():
            features = functional.normalize(hidden(fresh.pixels))
        means = torch.stack([features[fresh.labels == kind].mean(dim=0) for kind in (3, 4)])
        return float((torch.cdist(features, means).argmin(dim=1) == fresh.labels - 3).double().mean())

    assert told(learning("rows", epochs=1, learning_rate=1e-9)) < 0.8
    assert told(learning("rows", epochs=40, learning_rate=0.01, batch_size=16)) > 0.97


def test_what_is_frozen_is_the_same_whatever_clients_hold_and_another_for_other_public_images(tmp_path: Path) -> None:
    plan, data = plan_of(**LENET, defense=learning("relu2")), federation()
    others = federation((9, 14, 5))
    others = replace(data, holdings=tuple(replace(own, pixels=1 - own.pixels) for own in others.holdings))
    public = replace(data, public=images(6, seed=7))
    found, same, another = (
        train(tmp_path / str(number), plan, each).standing for number, each in enumerate((data, others, public))
    )
    assert bits(found.client) == bits(same.client)
    assert bits(found.server) != bits(same.server)
    assert bits(found.client) != bits(another.client)


def test_it_draws_from_its_own_stream_alone() -> None:
    model = Convolutional(features=(2, 3), hidden=4, dropout=0.5)

    def learnt(seed: int, before: int) -> object:
        segments = plan_of(model=model, cut="norm1").segments()
        torch.manual_seed(before)
        state = torch.random.get_rng_state()
        learning("norm1").warm_start(segments.whole, images(9, seed=3), Generator().manual_seed(seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        return bits(dict(segments.whole.state_dict()))

    assert learnt(0, 1) == learnt(0, 2) != learnt(1, 1)


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_a_few_public_images_are_enough_for_batch_normalisation(rows: int) -> None:
    segments = plan_of(**LENET).segments()
    learning("norm2", batch_size=2).warm_start(segments.whole, images(rows, seed=3), Generator().manual_seed(0))
    assert all(value.isfinite().all() for value in segments.whole.state_dict().values())


@pytest.mark.parametrize("rows", [0, 1])
def test_without_public_images_it_tells_the_way_out(rows: int) -> None:
    with pytest.raises(DataError, match=rf"transfer_learning: .* there are {rows}; raise roles\.public"):
        started(plan_of(defense=learning("rows")), images(rows, seed=0))


@pytest.mark.parametrize(
    ("freeze", "reason"),
    [
        ("row", "cannot freeze up to row, which is none of the blocks rows, hidden, logits"),
        ("logits", "would freeze all of the 3 blocks"),
        (3, "would freeze all of the 3 blocks"),
        (99, "would freeze all of the 3 blocks"),
    ],
)
def test_what_cannot_be_frozen_is_refused_before_any_compute(freeze: str | int, reason: str) -> None:
    row = f"defenses={{none: {{kind: none}}, public: {{kind: transfer_learning, freeze: {freeze}}}}}"
    scenario = tiny.scenario(row, "public.dataset={kind: phantoms}")
    with pytest.raises(ScenarioError) as refusal:
        check_cuts(scenario, SHAPE, 10)
    line = str(refusal.value)
    assert line.startswith(f"defenses.public: 'transfer_learning': {reason}")
    assert "\n" not in line


def test_blocks_without_parameters_cannot_be_all_that_is_frozen() -> None:
    segments = plan_of(model=Darkened(), cut="darkened").segments()
    assert learning("darkened").refuses(segments) == "would freeze nothing, as the first blocks have no parameters"
    assert not learning(2).refuses(segments)


def test_it_protects_no_image_from_the_attack_on_what_crosses(tmp_path: Path) -> None:
    rows = "{alone: {kind: transfer_learning, freeze: rows}, rank: [{kind: low_rank, rank: 8}, "
    scenario = tiny.scenario(
        f"defenses={rows}{{kind: transfer_learning, freeze: rows_factor}}]}}",
        "dataset.limit=900",
        "roles={private: 0.3, test: 0.1, auxiliary: 0.45, public: 0.15, evaluation: 0.0}",
        "model.width=32",
        "targets.count=100",
    )
    found = {outcome.defense: outcome for outcome in simulate(scenario, tmp_path, lambda _: None).outcomes}
    assert all(outcome.valid for outcome in found.values())
    reached = {name: outcome.scores["psnr"].mean or 0.0 for name, outcome in found.items()}
    anchor = found["none"].anchors["mean_image"]["psnr"] or 0.0
    # Of what an attack rebuilds beyond the mean image, in dB.
    gained = {name: psnr - anchor for name, psnr in reached.items()}
    assert gained["none"] > 5
    assert gained["alone"] > 0.9 * gained["none"]
    # Where something does hide the images, the same comparison tells.
    assert gained["rank"] < 0.8 * gained["none"]
