import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from fedsplit.federation.optimizer import Adam, Optimizer, StochasticGradientDescent
from fedsplit.layers.optimizer_memory import memory_of, remember

KINDS = [
    Adam(weight_decay=0.01),
    StochasticGradientDescent(momentum=0.9, weight_decay=0.01),
    StochasticGradientDescent(),
]
IDS = ["adam", "momentum", "plain"]

optimizers: TypeAdapter[Optimizer] = TypeAdapter(Optimizer)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def step(module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    inputs = torch.linspace(-number, number, 6, dtype=torch.float64).view(2, 3)
    module(inputs).square().sum().backward()
    optimizer.step()


@pytest.fixture(params=KINDS, ids=IDS)
def settings(request: pytest.FixtureRequest) -> Adam | StochasticGradientDescent:
    return request.param


def test_an_optimiser_that_remembers_goes_on_as_if_it_had_never_stopped(settings) -> None:
    module, other = network(), network()
    optimizer, interrupted = settings.over(module), settings.over(other)
    for number in (1, 2, 3):
        step(module, optimizer, number)
        step(other, interrupted, number)
        memory = memory_of(interrupted)
        interrupted = settings.over(other)
        remember(interrupted, memory)
    for mine, its in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_memory_is_a_copy(settings) -> None:
    module = network()
    optimizer = settings.over(module)
    step(module, optimizer, 1)
    memory = memory_of(optimizer)
    kept = {name: value.clone() for name, value in memory.items()}
    step(module, optimizer, 2)
    assert all(torch.equal(value, kept[name]) for name, value in memory.items())
    remember(optimizer, memory)
    step(module, optimizer, 3)
    assert all(torch.equal(value, kept[name]) for name, value in memory.items())


def test_what_is_frozen_is_not_moved_and_needs_no_memory(settings) -> None:
    module = network()
    module[0].requires_grad_(requires_grad=False)
    frozen = module[0].weight.clone()
    optimizer = settings.over(module)
    step(module, optimizer, 1)
    assert torch.equal(module[0].weight, frozen)
    assert all(int(key.split("/")[0]) < 2 for key in memory_of(optimizer))


@pytest.mark.parametrize(
    "module", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(requires_grad=False)], ids=["empty", "frozen"]
)
def test_nothing_to_move_is_no_error(settings, module: nn.Module) -> None:
    optimizer = settings.over(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer.zero_grad()
    optimizer.step()
    remember(optimizer, memory_of(optimizer))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_kind_chooses() -> None:
    assert optimizers.validate_json('{"kind": "adam", "learning_rate": 0.1, "state": "keep"}') == Adam(
        learning_rate=0.1, state="keep"
    )
    assert optimizers.validate_json('{"kind": "sgd", "momentum": 0.5}') == StochasticGradientDescent(momentum=0.5)


@pytest.mark.parametrize(
    "raw",
    [
        '{"kind": "rms"}',
        '{"kind": "sgd", "momentum": 1}',
        '{"kind": "adam", "learning_rate": 0}',
        '{"kind": "adam", "momentum": 0}',
    ],
)
def test_what_cannot_be_is_refused(raw: str) -> None:
    with pytest.raises(ValidationError):
        optimizers.validate_json(raw)
