from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Generator, Tensor
from torch.nn import functional

from fedsplit.component import Trust
from fedsplit.defenses.base import AnyDefense
from fedsplit.defenses.sca import Sca
from fedsplit.errors import DataError, ScenarioError
from fedsplit.federation.average import average
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client
from fedsplit.layers.sparse_coding import SparseCodingLayer, sparse_layer
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.reading import parse
from fedsplit.split import Segment
from tests.federation.builders import federation, holding, images, plan_of, started, train

SMALL: dict[str, Any] = {"features": [3, 4], "kernel_size": 3, "lambda": 0.2}

defenses: TypeAdapter[Sca] = TypeAdapter(AnyDefense)


def sca(**changes: Any) -> Sca:
    return defenses.validate_python({"kind": "sca", **SMALL, **changes})


def client_of(plan: Plan) -> Client:
    return Client(plan, plan.home(), holding(images(8, seed=0)), {}, Generator().manual_seed(0))


def layer_of(segment: Segment, number: int) -> SparseCodingLayer:
    layer = segment.get_submodule(f"sparse{number}")
    assert isinstance(layer, SparseCodingLayer)
    return layer


def step(client: Client, gradient: float = 0.0) -> None:
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.full_like(crossing.smashed, gradient)))


def after_update(atoms: Tensor, inputs: Tensor, codes: Tensor, rate: float) -> Tensor:
    """The activity-normalised update by im2col: columns of patches, a matrix of atoms, one loop over the features."""
    features, _, kernel, _ = atoms.shape
    padding, size = kernel // 2, inputs.shape[2:]
    standardised = torch.stack([(row - row.mean()) / row.std() for row in inputs])
    columns = torch.einsum("fp,nfl->npl", atoms.flatten(1), codes.flatten(2))
    error = standardised - functional.fold(columns, size, kernel, padding=padding)
    patches = functional.unfold(error, kernel, padding=padding)
    moved = atoms.clone()
    for feature in range(features):
        own = codes[:, feature].flatten(1)
        pull = torch.einsum("nl,npl->p", own, patches)
        moved[feature] += rate / (int((own > 0).sum()) + 1) * pull.view_as(atoms[feature])
        moved[feature] /= moved[feature].norm()
    return moved


@pytest.mark.parametrize("backpropagate", [True, False])
def test_the_second_dictionary_moves_as_published(backpropagate: bool) -> None:
    def stepped(rate: float) -> tuple[dict[str, Tensor], Tensor]:
        defense = sca(backpropagate=backpropagate, hebbian_rate=rate)
        client = client_of(plan_of(defense=defense, precision="float64"))
        outputs = dict(client.segment.features(client.holding.pixels.double()))
        step(client, gradient=0.01)
        return outputs, layer_of(client.segment, 2).atoms.detach()

    outputs, without = stepped(rate=0.0)
    _, found = stepped(rate=0.3)
    inputs, codes = outputs["sparse1_norm"].detach(), outputs["sparse2"].detach()
    torch.testing.assert_close(found, after_update(without, inputs, codes, rate=0.3), rtol=0, atol=1e-10)
    assert (found - without).abs().max() > 1e-3
    untouched = layer_of(plan_of(defense=sca(), precision="float64").segments().client, 2).atoms
    assert torch.allclose(without, untouched, rtol=0, atol=1e-12) != backpropagate


@pytest.mark.parametrize("backpropagate", [True, False])
def test_only_learned_dictionaries_after_the_first_move(backpropagate: bool, tmp_path: Path) -> None:
    moves: dict[tuple[str, str], bool] = {}
    for dictionary in ("learned", "random"):
        plan = plan_of(defense=sca(features=[3, 2, 3], dictionary=dictionary, backpropagate=backpropagate))
        _, start = started(plan, federation((6, 6)).public)
        standing = train(tmp_path / dictionary, plan, federation((6, 6)), SplitFedV1(rounds=1, batch_size=6)).standing
        for name in ("sparse1", "sparse2", "sparse3"):
            key = f"{name}.dictionary"
            moves[dictionary, name] = not torch.equal(standing.client[key], start.client[key])
    assert [place for place, moved in moves.items() if moved] == [("learned", "sparse2"), ("learned", "sparse3")]


def test_without_a_task_the_update_codes_the_same_images_better() -> None:
    defense = sca(backpropagate=False, hebbian_rate=0.3, iterations=200)
    client = client_of(plan_of(defense=defense, precision="float64"))
    layer = layer_of(client.segment, 2)
    inputs = dict(client.segment.features(client.holding.pixels.double()))["sparse1_norm"].detach()

    def reached() -> tuple[float, float]:
        codes = layer.solve(inputs).codes
        error = layer.standardised(inputs) - layer.reconstruct(codes)
        return layer.objective(inputs, codes).mean().item(), error.square().sum().item()

    before = reached()
    for _ in range(10):
        step(client)
    after = reached()
    assert after[0] < 0.95 * before[0]
    assert after[1] < 0.95 * before[1]


def test_the_average_of_the_clients_dictionaries_codes_as_well_as_their_own(tmp_path: Path) -> None:
    plan = plan_of(defense=sca(hebbian_rate=0.3), optimizer=Adam(learning_rate=0.02))
    data = federation((18, 18, 18))
    trained = train(tmp_path, plan, data, SplitFedV1(rounds=1, batch_size=6, local_epochs=4), Recording(training=(1,)))
    returned = [state for _, state in trained.ledger.pages[0].returned]
    averaged = average(returned, [1.0] * 3)
    segment = plan.prepare(plan.segments().client, averaged, training=False)
    pixels = torch.cat([own.pixels for own in data.holdings])
    layer, inputs = layer_of(segment, 2), dict(segment.features(pixels))["sparse1_norm"].detach()

    def objective(dictionary: Tensor) -> float:
        layer.load_state_dict({"dictionary": dictionary})
        return layer.objective(inputs, layer.solve(inputs).codes).mean().item()

    untrained = objective(layer_of(plan.segments().client, 2).dictionary.detach())
    own = [objective(state["sparse2.dictionary"]) for state in returned]
    # On everybody's images: each client's dictionary has learned, and the mean of the three is no worse than the worst.
    assert max(own) < 0.8 * untrained
    assert objective(averaged["sparse2.dictionary"]) < max(own)


def test_more_lambda_means_fewer_active_atoms_in_both_layers() -> None:
    shares: list[list[float]] = []
    pixels = images(12, seed=0).pixels
    for strength in (0.05, 0.2, 0.8):
        outputs = dict(plan_of(defense=sca(**{"lambda": strength})).segments().client.features(pixels))
        assert all((outputs[name] >= 0).all() for name in ("sparse1", "sparse2"))
        shares.append([(outputs[name] > 0).float().mean().item() for name in ("sparse1", "sparse2")])
    assert all(less < more for (more, _), (less, _) in pairwise(shares))
    assert all(less < more for (_, more), (_, less) in pairwise(shares))


def test_each_layer_may_have_its_own_lambda() -> None:
    segment = plan_of(defense=sca(**{"lambda": [0.1, 0.5]})).segments().client
    assert [layer_of(segment, number).lambda_ for number in (1, 2)] == [0.1, 0.5]
    with pytest.raises(ValidationError, match="1 values for 2 sparse layers"):
        sca(**{"lambda": [0.1]})


def test_a_scenario_names_it_and_sweeps_it() -> None:
    raw: dict[str, Any] = {
        "name": "tiny",
        "dataset": {"kind": "digits"},
        "model": {"kind": "linear", "width": 4},
        "cut": "rows",
        "defenses": {"sca": {"kind": "sca", "lambda": {"sweep": [0.1, 0.5]}}},
    }
    rows = dict(parse(raw, Trust()).rows)
    assert [row for row in rows if row != "none"] == ["sca lambda=0.1", "sca lambda=0.5"]
    for wrong in ({"lambda": 0}, {"lambda": [0.1, 0.2, 0.3]}, {"kernel_size": 4}, {"features": []}, {"dropout": 1}):
        with pytest.raises(ScenarioError, match=r"defenses\.sca"):
            parse({**raw, "defenses": {"sca": {"kind": "sca", **wrong}}}, Trust())


@pytest.mark.parametrize("model", [Linear(width=500), LeNet(batch_norm=True)], ids=["linear", "lenet"])
def test_the_published_network_is_the_default(model: Linear | LeNet) -> None:
    cut = "rows" if isinstance(model, Linear) else "conv1"
    with torch.device("meta"):
        segments = plan_of(model=model, cut=cut, defense=Sca(), shape=(1, 28, 28), classes=10).segments()
    if isinstance(model, Linear):
        assert segments.cut_shape == (28, 28, 500)
        assert sum(1 for _ in segments.server.blocks()) == 2
    assert segments.client.names[:4] == ("sparse1", "sparse1_norm", "sparse2", "sparse2_norm")
    assert layer_of(segments.client, 1).dictionary.shape == (16, 1, 5, 5)
    assert layer_of(segments.client, 2).dictionary.shape == (28, 16, 5, 5)


def test_without_backpropagation_the_normalisation_between_has_nothing_to_learn() -> None:
    segment = client_of(plan_of(defense=sca(backpropagate=False))).segment
    assert {name.split(".")[0] for name, _ in segment.named_parameters()} == {"sparse2_norm", "rows"}
    segment = client_of(plan_of(defense=sca())).segment
    assert {name.split(".")[0] for name, _ in segment.named_parameters()} == {
        "sparse1_norm", "sparse2", "sparse2_norm", "rows",
    }  # fmt: skip


def test_the_first_dictionary_may_come_from_public_images() -> None:
    patches = defenses.validate_python({"kind": "sca", **SMALL, "first_dictionary": "patches"})
    plan, data = plan_of(defense=patches), federation()
    began = plan.segments().client.state_dict()
    _, start = started(plan, data.public)
    changed = {name for name, value in start.client.items() if not torch.equal(value, began[name])}
    assert changed == {"sparse1.dictionary"}
    with pytest.raises(DataError, match=r"roles\.public"):
        started(plan, data.public.at(torch.arange(0)))


def test_two_stems_in_one_row_are_refused() -> None:
    with pytest.raises(ScenarioError, match="'sparse1': is the name of two blocks"):
        plan_of(defense=defenses.validate_python([{"kind": "sca"}, {"kind": "sca"}])).segments()


def test_its_layers_are_found_where_another_defense_has_something_around_them() -> None:
    keeping = {"kind": "misleading_fakes", "continual": True, "continual_weight": 0.5}
    plan = plan_of(defense=defenses.validate_python([{"kind": "sca", **SMALL}, keeping]))
    client = client_of(plan)
    layer = sparse_layer(client.segment, "sparse2")
    before = layer.dictionary.clone()
    step(client)
    assert not torch.equal(layer.dictionary, before)
    coded = plan_of(defense=defenses.validate_python([{"kind": "sparse_standard", "features": 3}, keeping]))
    assert not coded.defense.warm_start(coded.segments().whole, images(6, seed=1), Generator())


@pytest.mark.parametrize(("model", "cut"), [(Linear(width=8), "rows"), (LeNet(channels=2), "pool1")])
def test_it_learns_with_other_defenses_around_it(model: Linear | LeNet, cut: str, tmp_path: Path) -> None:
    row = [{"kind": "sca", **SMALL}, {"kind": "gaussian_noise", "std": 0.05}]
    plan = plan_of(model=model, cut=cut, defense=defenses.validate_python(row), optimizer=Adam(learning_rate=0.01))
    assert train(tmp_path, plan, federation((60,)), SplitFedV1(rounds=6, batch_size=10)).accuracy > 0.9
