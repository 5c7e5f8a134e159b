import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from fedsplit.federation.mover import Mover
from fedsplit.federation.optimizer import Adam, Optimizer, StochasticGradientDescent

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


def step(module: nn.Module, optimizer: Mover | torch.optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    inputs = torch.linspace(-number, number, 6, dtype=torch.float64).view(2, 3)
    module(inputs).square().sum().backward()
    optimizer.step()


@pytest.fixture(params=KINDS, ids=IDS)
def settings(request: pytest.FixtureRequest) -> Adam | StochasticGradientDescent:
    return request.param


@pytest.mark.parametrize(
    ("settings", "kind", "arguments"),
    [
        (Adam(learning_rate=0.1, weight_decay=0.01), torch.optim.Adam, {"weight_decay": 0.01}),
        (StochasticGradientDescent(learning_rate=0.1, momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
        (StochasticGradientDescent(learning_rate=0.1, weight_decay=0.01), torch.optim.SGD, {"weight_decay": 0.01}),
    ],
    ids=IDS,
)
def test_it_moves_as_torchs_own_does_and_knows_the_same(settings, kind, arguments) -> None:
    module, other = network(), network()
    mover, reference = settings.over(module), kind(other.parameters(), lr=0.1, fused=True, **arguments)
    for number in (1, 2, 3):
        step(module, mover, number)
        step(other, reference, number)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    states = reference.state_dict()["state"].items()
    known = {
        f"{number}/{name}": value for number, state in states for name, value in state.items() if value is not None
    }
    assert set(mover.memory) == set(known)
    assert all(torch.equal(value, known[key]) for key, value in mover.memory.items())


def test_a_gradient_that_is_laid_out_otherwise_moves_the_same_values(settings) -> None:
    def convolution() -> nn.Module:
        torch.manual_seed(0)
        return nn.Conv2d(3, 4, 2).double()

    module, other = convolution().to(memory_format=torch.channels_last), convolution()
    movers = settings.over(module), settings.over(other)
    gradient = torch.linspace(-1, 1, other.weight.numel(), dtype=torch.float64).view_as(other.weight)
    for number in (1, 2, 3):
        for one, mover in zip((module, other), movers, strict=True):
            one.weight.grad = number * gradient
            mover.step()
    assert not module.weight.is_contiguous()
    torch.testing.assert_close(module.weight, other.weight, rtol=1e-12, atol=0, check_stride=False)


def test_what_has_no_gradient_stays_and_counts_no_step(settings) -> None:
    module, other = network(), network()
    mover, reference = settings.over(module), settings.over(other)
    step(other, reference, 2)
    still = module[0].weight.clone()
    module[2](torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    mover.step()
    assert torch.equal(module[0].weight, still)
    assert not any(key.startswith(("0/", "1/")) for key in mover.memory)


def test_an_optimiser_that_remembers_goes_on_as_if_it_had_never_stopped(settings) -> None:
    module, other = network(), network()
    optimizer, interrupted = settings.over(module), settings.over(other)
    for number in (1, 2, 3):
        step(module, optimizer, number)
        step(other, interrupted, number)
        memory = interrupted.memory
        interrupted = settings.over(other)
        interrupted.remember(memory)
    for mine, its in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_memory_is_a_copy(settings) -> None:
    module = network()
    optimizer = settings.over(module)
    step(module, optimizer, 1)
    memory = optimizer.memory
    kept = {name: value.clone() for name, value in memory.items()}
    step(module, optimizer, 2)
    assert all(torch.equal(value, kept[name]) for name, value in memory.items())
    optimizer.remember(memory)
    step(module, optimizer, 3)
    assert all(torch.equal(value, kept[name]) for name, value in memory.items())


def test_what_is_frozen_is_not_moved_and_needs_no_memory(settings) -> None:
    module = network()
    module[0].requires_grad_(requires_grad=False)
    frozen = module[0].weight.clone()
    optimizer = settings.over(module)
    step(module, optimizer, 1)
    assert torch.equal(module[0].weight, frozen)
    assert all(int(key.split("/")[0]) < 2 for key in optimizer.memory)


@pytest.mark.parametrize(
    "module", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(requires_grad=False)], ids=["empty", "frozen"]
)
def test_nothing_to_move_is_no_error(settings, module: nn.Module) -> None:
    optimizer = settings.over(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer.zero_grad()
    optimizer.step()
    optimizer.remember(optimizer.memory)
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
