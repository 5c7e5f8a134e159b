from pathlib import Path

import pytest
import torch

from fedsplit.defenses.composition import Composition
from fedsplit.defenses.low_rank import LowRank
from fedsplit.errors import ScenarioError
from fedsplit.federation.optimizer import Adam
from fedsplit.layers.bottleneck import Expansion
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import federation, images, plan_of, train, whole_model

PLACES = [
    (Linear(width=4), "rows"),
    (Linear(width=40), "hidden"),
    (LeNet(channels=2), "conv1"),
    (LeNet(channels=2), "pool2"),
]
IDS = [f"{model.kind}-{cut}" for model, cut in PLACES]


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_few_numbers_cross_the_cut(model, cut: str, rank: int, tmp_path: Path) -> None:
    plan = plan_of(model=model, cut=cut, defense=LowRank(rank=rank))
    segments = plan.segments()
    assert segments.cut_shape == (rank,)
    data = federation()
    standing = train(tmp_path, plan, data).standing
    crossings = 2 * sum(len(own) for own in data.holdings)
    assert standing.bytes == (crossings * (4 * rank + 8), crossings * 4 * rank)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_the_linear_part_has_this_rank_and_the_code_is_bounded(model, cut: str, rank: int) -> None:
    segments = plan_of(model=model, cut=cut, defense=LowRank(rank=rank), precision="float64").segments()
    inputs = images(40, seed=0).pixels.double()
    code = segments.client(inputs)
    assert (code.abs() < 1).all()
    # Behind the tanh is a linear map of the features: the released numbers are affine in as many directions.
    name, features = segments.client.features(inputs)[-2]
    assert name == cut
    flat = features.flatten(1)
    assert torch.linalg.matrix_rank(torch.cat([flat - flat.mean(0), (code.atanh() - code.atanh().mean(0))], dim=1)) == (
        torch.linalg.matrix_rank(flat - flat.mean(0))
    )
    expansion = segments.server.get_submodule(segments.server.names[0])
    assert isinstance(expansion, Expansion)
    restored = expansion(code)
    assert restored.shape == features.shape
    assert torch.linalg.matrix_rank((restored - restored.mean(0)).flatten(1), rtol=1e-9) == rank


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_the_blocks_of_the_model_begin_as_without_the_defense(model, cut: str) -> None:
    plain = whole_model(plan_of(model=model, cut=cut)).state_dict()
    first = plan_of(model=model, cut=cut, defense=LowRank(rank=2)).segments()
    found = {**first.client.state_dict(), **first.server.state_dict()}
    assert set(plain) < set(found)
    assert all(torch.equal(value, found[name]) for name, value in plain.items())


def test_it_composes_with_itself() -> None:
    segments = plan_of(defense=Composition(members=(LowRank(rank=5), LowRank(rank=2)))).segments()
    assert segments.cut_shape == (2,)
    assert segments.client.names == ("rows", "rows_factor", "rows_factor_factor")
    assert segments.server.names == ("rows_factor_expansion", "rows_expansion", "hidden", "logits")
    assert segments.server(segments.client(torch.rand(3, 1, 8, 8))).shape == (3, 3)


def test_it_learns(tmp_path: Path) -> None:
    plan = plan_of(model=Linear(width=8), defense=LowRank(rank=3), optimizer=Adam(learning_rate=0.01))
    assert train(tmp_path, plan, federation((60,)), SplitFedV1(rounds=8, batch_size=10)).accuracy > 0.9


def test_a_cut_that_does_not_exist_is_refused_as_without_the_defense() -> None:
    for cut in ("nowhere", "logits"):
        with pytest.raises(ScenarioError, match=f"cut: '{cut}'"):
            plan_of(cut=cut, defense=LowRank(rank=2)).segments()
