"""What every defense promises, at several cuts; a plug-in passes it by being added to SETTINGS."""

import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Generator, Tensor

from fedsplit.defenses.base import DEFENSES, AnyDefense, Defense
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import auxiliary, federation, first_task, holding, images, local_round, plan_of, train

NEEDED: dict[str, dict[str, Any]] = {
    "composition": {"members": [{"kind": "low_rank", "rank": 6}, {"kind": "gaussian_noise", "std": 0.5}]},
    "gaussian_noise": {"std": 0.5},
    "laplace_noise": {"scale": 0.5},
    "low_rank": {"rank": 6},
    "low_rank_head": {"rank": 4},
    "mid": {"beta": 0.01, "features": 4},
    "misleading_fakes": {
        "least_rows": 2,
        "epochs": 2,
        "steps": 2,
        "generator": {"kind": "conditional_gan", "epochs": 1, "least_steps": 2, "batch_size": 4, "widths": [5]},
    },
    "sca": {"features": [3, 4]},
    "sparse_standard": {"features": 3, "convolution": 4},
    "conv_reference": {"features": [3, 4]},
    "gan_augmentation": {
        "least_rows": 2,
        "generator": {"kind": "conditional_gan", "epochs": 1, "least_steps": 2, "batch_size": 4, "widths": [5]},
    },
    "bido": {"input_weight": 0.05, "label_weight": 0.5},
    "dropout_at_cut": {"rate": 0.5},
    "nopeek": {"weight": 0.5},
    "poison_preserving": {"steps": 3, "passes": [0, 1]},
    "poison_flipping": {"share": 0.5, "steps": 3, "passes": [0, 1]},
    "poison_smashed": {"steps": 3, "passes": [0, 1]},
    "quantise": {"bits": 2},
    "shredder": {"tensors": 3, "steps": 3, "batch_size": 4},
    "top_k": {"share": 0.3},
    "transfer_learning": {"freeze": 1, "epochs": 2},
}
"""Settings without a default, and sizes that keep this fast."""

SETTINGS: list[dict[str, Any]] = [{"kind": kind, **NEEDED.get(kind, {})} for kind in DEFENSES.shipped] + [
    {"kind": "gaussian_noise", "std": 0.5, "relative": True},
    {"kind": "laplace_noise", "scale": 0.5, "relative": True},
    {"kind": "quantise", "bits": 2, "dither": True},
    {"kind": "low_rank", "rank": 6, "activation": "sigmoid"},
    {"kind": "low_rank_head", "rank": 2, "activation": "relu6", "adapted_rounds": 1},
    {"kind": "mid", "beta": 0.01},
    {"kind": "mid", "beta": 0.01, "place": "head"},
    {"kind": "nopeek", "weight": 0.5, "squared": True},
    {"kind": "dp_sgd", "segments": "client", "sampling": "shuffled", "clip": 0.1, "noise_multiplier": 0.0},
    {"kind": "dp_sgd", "segments": "client"},
    {"kind": "transfer_learning", "freeze": 2, "epochs": 2, "batch_size": 2, "learning_rate": 0.1},
    {"kind": "bido", "measure": "coco", "input_weight": 1.0, "label_weight": 50.0, "kernel_width": 1.0},
    {"kind": "poison_preserving", "generator": True, "norm": "largest", "passes": [1]},
    {"kind": "poison_flipping", "generator": True, "share": 0.5, "norm": "largest", "passes": [1]},
    {"kind": "sca", "features": [3, 4], "backpropagate": False, "dropout": 0.1, "first_dictionary": "pretrained"},
    {"kind": "sca", "features": [3], "dictionary": "random", "stride": 2, "lambda": [0.25]},
    {"kind": "misleading_fakes", "continual": True, "continual_weight": 0.5, "epochs": 2},
    {"kind": "sparse_standard", "features": 3, "convolution": 0, "first_dictionary": "patches"},
]
UNCITED = ("none", "composition")
PLACES: list[tuple[Model, str]] = [
    (Linear(width=5), "rows"),
    (LeNet(channels=2, batch_norm=True), "norm1"),
    (LeNet(channels=2), "dense1"),
]
RECORDING = Recording(training=(1,), inference=(1,))

defenses: TypeAdapter[Defense] = TypeAdapter(AnyDefense)


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(map(str, settings.values()))[:40])
def defense(request: pytest.FixtureRequest) -> Defense:
    return defenses.validate_python(request.param)


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0].kind}-{place[1]}")
def plan(request: pytest.FixtureRequest, defense: Defense) -> Plan:
    model, cut = request.param
    plan = plan_of(model=model, cut=cut, defense=defense)
    if reason := defense.refuses(plan.segments()):
        pytest.skip(reason)
    return plan


def released(plan: Plan, smashed: Tensor, seed: int) -> Tensor:
    rng = Generator().manual_seed(seed)
    for member in plan.defense.releasing("inference"):
        smashed = member.release(smashed, rng)
    return smashed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 4])
def test_release_keeps_shape_and_type_and_its_argument(plan: Plan, rows: int, dtype: torch.dtype) -> None:
    smashed = torch.randn((rows, *plan.segments().cut_shape), dtype=dtype)
    before = smashed.clone()
    found = released(plan, smashed, seed=0)
    assert found.shape == smashed.shape
    assert found.dtype == dtype
    assert found.isfinite().all()
    assert torch.equal(smashed, before)


def test_release_depends_on_nothing_but_its_stream(plan: Plan) -> None:
    smashed = torch.randn((4, *plan.segments().cut_shape))
    state = torch.random.get_rng_state()
    first, again = released(plan, smashed, seed=0), released(plan, smashed, seed=0)
    assert torch.equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_defense_that_releases_changes_what_is_released(plan: Plan) -> None:
    smashed = torch.randn((4, *plan.segments().cut_shape))
    changed = not torch.equal(released(plan, smashed, seed=0), smashed)
    assert changed == plan.defense.releases


def test_gradients_are_finite_and_reach_every_client_parameter(plan: Plan) -> None:
    client = Client(plan, plan.home(), holding(images(8, seed=0)), {}, Generator().manual_seed(0))
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.randn(crossing.smashed.shape, generator=Generator().manual_seed(1))))
    for name, parameter in client.segment.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_local_round_is_the_same_twice_and_leaves_the_holding_alone(plan: Plan) -> None:
    own = holding(images(11, seed=0))
    pixels = own.pixels.clone()
    protocol = SplitFedV1(batch_size=4)
    first, again = (local_round(plan, protocol, first_task(plan), own) for _ in range(2))
    assert all(torch.equal(value, again.closing.state[name]) for name, value in first.closing.state.items())
    assert all(torch.equal(value, again.server_state[name]) for name, value in first.server_state.items())
    assert first.losses == again.losses
    assert torch.equal(own.pixels, pixels)


def test_a_federation_trains_and_leaks_finite_numbers(plan: Plan, tmp_path: Path) -> None:
    data = federation()
    trained = train(tmp_path, plan, data, SplitFedV1(rounds=1, batch_size=6), RECORDING)
    assert 0 <= trained.accuracy <= 1
    for kind in ("training", "inference"):
        leak = expose(plan, trained, data, auxiliary(), Observation(kind, 1, True)).leak
        assert leak.smashed is not None
        targets, *shape = leak.smashed.shape
        # Where rows are drawn, some are in no batch of the round.
        assert 0 < targets <= 12 if kind == "training" and plan.defense.samples == "poisson" else targets == 12
        assert tuple(shape) == plan.segments().cut_shape
        assert leak.smashed.isfinite().all()


def test_its_settings_survive_yaml_and_a_process_border(defense: Defense) -> None:
    text = yaml.safe_dump(defenses.dump_python(defense, mode="json"))
    assert defenses.validate_python(yaml.safe_load(text)) == defense
    assert pickle.loads(pickle.dumps(defense)) == defense


def test_it_refuses_an_unknown_key(defense: Defense) -> None:
    raw = defenses.dump_python(defense, mode="json")
    with pytest.raises(ValidationError, match="surprise"):
        defenses.validate_python({**raw, "surprise": 1})


def test_active_is_refused_or_obeyed(defense: Defense) -> None:
    raw = {**defenses.dump_python(defense, mode="json"), "active": "training"}
    if not defense.releases or defense.kind == "composition":
        with pytest.raises(ValidationError):
            defenses.validate_python(raw)
    else:
        changed = defenses.validate_python(raw)
        assert changed.releasing("training")
        assert not changed.releasing("inference")


@pytest.mark.parametrize("kind", [kind for kind in DEFENSES.shipped if kind not in UNCITED])
def test_its_module_cites_a_paper(kind: str) -> None:
    text = importlib.import_module(f"fedsplit.defenses.{kind}").__doc__
    assert text is not None
    assert re.search(r"(19|20)\d\d", text)
