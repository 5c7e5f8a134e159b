"""The hooks of a training step, each used by a small plug-in, against autograd written out by hand."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from fedsplit.defenses.base import Defense
from fedsplit.defenses.none import Undefended
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Crossing, CutGradient
from fedsplit.federation.optimizer import StochasticGradientDescent
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client, FederationData, HonestServer
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Images
from tests.defenses import plugins
from tests.federation.builders import (
    CLASSES,
    assert_same,
    federation,
    holding,
    images,
    plan_of,
    started,
    train,
)

RECORDING = Recording(training=(1,), inference=(1,))


def client_of(plan: Plan, seed: int = 0) -> Client:
    return Client(plan, plan.home(), holding(images(7, seed=1)), {}, Generator().manual_seed(seed))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


# release


@pytest.mark.parametrize("model", [Linear(width=5), LeNet(channels=2, batch_norm=True)], ids=lambda model: model.kind)
def test_the_gradient_belongs_to_the_noise_that_was_sent(model) -> None:
    plan = plan_of(
        model=model,
        cut="rows" if model.kind == "linear" else "pool1",
        defense=plugins.RandomScale(),
        precision="float64",
    )
    client = client_of(plan, seed=4)
    batch = holding(images(6, seed=2))
    crossing = client.send(batch)
    gradient = torch.rand(crossing.smashed.shape, generator=Generator().manual_seed(8), dtype=torch.float64)
    client.receive(CutGradient(gradient))

    again = plan.segments().client.train()
    smashed = again(batch.pixels.double())
    noise = 0.5 + torch.rand(smashed.shape, generator=Generator().manual_seed(4), dtype=torch.float64)
    torch.testing.assert_close(crossing.smashed, (smashed * noise).detach(), rtol=1e-12, atol=1e-12)
    (smashed * noise * gradient).sum().backward()
    assert_same(gradients(client.segment), gradients(again))
    assert not crossing.smashed.requires_grad


def test_every_exchange_has_noise_of_its_own() -> None:
    client = client_of(plan_of(defense=plugins.RandomScale()))
    batch = holding(images(6, seed=2))
    first, second = client.send(batch).smashed, client.send(batch).smashed
    assert not torch.equal(first, second)


# penalties


def test_the_client_penalty_alone_moves_the_client() -> None:
    plan = plan_of(defense=plugins.SmallFeatures(weight=0.1), precision="float64")
    client = client_of(plan)
    batch = holding(images(6, seed=2))
    crossing = client.send(batch)
    client.receive(CutGradient(torch.zeros_like(crossing.smashed)))

    again = plan.segments().client
    features = again.features(batch.pixels.double())
    (0.1 * features[-1][1].square().sum() + 0.1 * features[0][1].sum()).backward()
    expected = gradients(again)
    assert all(value.abs().sum() > 0 for value in expected.values())
    assert_same(gradients(client.segment), expected)
    assert not torch.equal(client.segment.state_dict()["rows.0.weight"], again.state_dict()["rows.0.weight"])


def test_the_client_penalty_is_added_to_the_gradient_of_the_cut() -> None:
    found: list[dict[str, Tensor]] = []
    for weight, scale in ((0.1, 1.0), (0.1, 0.0), (0.0, 1.0)):
        client = client_of(plan_of(defense=plugins.SmallFeatures(weight=weight), precision="float64"))
        crossing = client.send(holding(images(6, seed=2)))
        client.receive(CutGradient(scale * torch.ones_like(crossing.smashed)))
        found.append(gradients(client.segment))
    both, penalty, task = found
    assert_same(both, {name: penalty[name] + task[name] for name in both})


def test_without_a_task_gradient_nothing_moves_but_by_penalties(tmp_path: Path) -> None:
    # With one class the cross entropy is zero whatever the logits are.
    data = federation()
    holdings = tuple(type(own)(own.pixels, 0 * own.labels, own.weights, own.rows, own.watched) for own in data.holdings)
    test = Images(data.test.pixels, 0 * data.test.labels, data.test.groups, ("a",))
    data = FederationData(holdings, data.visitors, data.public, test)
    moved = {}
    for name, defense in {
        "none": plugins.SmallLogits(weight=0.0),
        "client": plugins.SmallFeatures(),
        "server": plugins.SmallLogits(),
    }.items():
        plan = plan_of(defense=defense, classes=1)
        _, start = started(plan, data.public)
        standing = train(tmp_path / name, plan, data).standing
        moved[name] = (
            not torch.equal(standing.client["rows.0.weight"], start.client["rows.0.weight"]),
            not torch.equal(standing.server["hidden.1.weight"], start.server["hidden.1.weight"]),
        )
    # The server's penalty reaches the client through the gradient of the cut, as the task loss does.
    assert moved == {"none": (False, False), "client": (True, False), "server": (True, True)}


def test_the_server_penalty_is_part_of_the_servers_loss_and_of_the_cut_gradient() -> None:
    plan = plan_of(defense=plugins.SmallLogits(weight=0.1), precision="float64")
    server = HonestServer(plan, plan.segments().server.train(), {}, Generator())
    smashed = torch.rand((6, 1, 8, 5), generator=Generator().manual_seed(2), dtype=torch.float64)
    labels, weights = torch.arange(6) % CLASSES, torch.tensor([1.0, 2, 0, 1, 0.5, 1], dtype=torch.float64)
    answer = server.answer(Crossing(smashed, labels, weights))
    assert isinstance(answer, CutGradient)
    gradient, loss = answer.gradient, server.losses[-1]

    again = plan.segments().server
    leaf = smashed.clone().requires_grad_()
    features = again.features(leaf)
    logits = features[-1][1]
    log_likelihoods = logits.log_softmax(dim=1)[torch.arange(6), labels]
    task = -(weights * log_likelihoods).sum() / weights.sum()
    (task + 0.1 * (logits - 1).square().sum() + 0.1 * features[0][1].sum()).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(task.item(), rel=1e-12)
    assert_same(gradients(server.segment), gradients(again))


# after_server_backward


class Noticing(Defense):
    """Puts in the place of the server's gradients what it is told that they come from."""

    def after_server_backward(self, segment, passage, rng):
        again = segment(passage.inputs)
        torch.testing.assert_close(again, passage.outputs)
        parameters = dict(segment.named_parameters())
        found = torch.autograd.grad(again, list(parameters.values()), passage.gradient)
        for value, gradient in zip(parameters.values(), found, strict=True):
            assert value.grad is not None and bool(value.grad.any())
            torch.testing.assert_close(gradient, value.grad)
            value.grad = (gradient + torch.randn(gradient.shape, generator=rng).to(gradient)) * float(passage.mass)


@pytest.mark.parametrize("head", [None, "logits"], ids=["two parts", "U-shaped"])
@pytest.mark.parametrize("protocol", [SplitFedV1(rounds=1, batch_size=6), Parallel(rounds=1, batch_size=6)])
def test_the_server_is_told_where_its_gradients_come_from_and_moves_along_what_it_is_given(
    protocol, head: str | None, tmp_path: Path
) -> None:
    """A step of every client: `mass` is that of all rows that it is made of."""
    moved = {}
    for defense in (Undefended(), Noticing()):
        optimizer = StochasticGradientDescent(learning_rate=1.0)
        plan = plan_of(defense=defense, head=head, precision="float64", optimizer=optimizer)
        data = federation((6, 6))
        _, start = started(plan, data.public)
        server = train(tmp_path / defense.kind.replace(":", "."), plan, data, protocol).standing.server
        moved[defense.kind] = torch.cat([(start.server[name] - value).flatten() for name, value in server.items()])
    mass, copies = (6, 2) if isinstance(protocol, SplitFedV1) else (12, 1)
    noise = next(value for kind, value in moved.items() if kind != "none") / mass - moved["none"]
    assert noise.std() == pytest.approx(copies**-0.5, rel=0.15)


# after_backward, after_step


def test_after_backward_clips_what_the_optimiser_sees() -> None:
    optimizer = StochasticGradientDescent(learning_rate=0.5)
    plan = plan_of(defense=plugins.Clip(norm=0.25), optimizer=optimizer, precision="float64")
    client = client_of(plan)
    before = [parameter.detach().clone() for parameter in client.segment.parameters()]
    crossing = client.send(holding(images(6, seed=2)))
    client.receive(CutGradient(torch.ones_like(crossing.smashed)))
    moves = [now - then for now, then in zip(client.segment.parameters(), before, strict=True)]
    assert torch.stack([move.norm() for move in moves]).norm().item() == pytest.approx(0.5 * 0.25, rel=1e-9)


def test_after_backward_knows_the_clients_own_labels(tmp_path: Path) -> None:
    data = federation()
    _, start = started(plan_of(), data.public)
    for label, moves in ((0, True), (7, False)):
        standing = train(tmp_path / str(label), plan_of(defense=plugins.ClipByClass(label=label)), data).standing
        assert torch.equal(standing.client["rows.0.weight"], start.client["rows.0.weight"]) != moves


def test_after_step_projects_parameters_at_every_client(tmp_path: Path) -> None:
    plan = plan_of(defense=plugins.Sphere(radius=3.0), precision="float64")
    trained = train(tmp_path, plan, federation(), recording=RECORDING)
    for _, state in trained.ledger.pages[0].returned:
        assert [value.norm().item() for value in state.values()] == pytest.approx([3.0, 3.0], rel=1e-12)
