"""Against Opacus (Yousefpour et al., 2021): its gradients by sample, and its optimiser."""

import importlib

import pytest
import torch
from torch import Generator

from fedsplit.defenses.dp_sgd import DpSgd
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.roles import Client
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.models.resnet18 import ResNet18
from tests.federation.builders import assert_same, holding, images, plan_of

PLACES = [
    (Linear(width=5), "rows"),
    (LeNet(channels=2), "dense1"),
    # It cannot hook a residual block, which adds in place.
    (ResNet18(stem="small", norm="group", groups=4), "relu1"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clip", [0.1, 10.0, 1e6])
@pytest.mark.parametrize(("model", "cut"), PLACES, ids=[model.kind for model, _ in PLACES])
def test_it_is_the_gradient_that_opacus_gives_its_optimiser(model: Model, cut: str, clip: float) -> None:
    rows = 6
    plan = plan_of(
        model=model, cut=cut, defense=DpSgd(clip=clip, noise_multiplier=0, segments="client"), precision="float64"
    )
    client = Client(plan, plan.home(), holding(images(rows, seed=1)), {}, Generator())
    crossing = client.send(client.holding)
    back = torch.randn(crossing.smashed.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
    client.backward(CutGradient(back))

    # When a test runs, and not when it is collected: it takes seconds.
    opacus = importlib.import_module("opacus")
    module = opacus.GradSampleModule(plan.segments().client, loss_reduction="sum")
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=rows,
        loss_reduction="mean",
    )
    # The gradient that comes back is that of a mean; Opacus clips what each sample gives to the sum.
    (module(client.holding.pixels.double()) * back * rows).sum().backward()
    optimizer.pre_step()
    expected = {name.removeprefix("_module."): value.grad for name, value in module.named_parameters()}
    # It divides by a norm of which it takes 1e-6 too much.
    assert_same(client.gradients, expected, tolerance=1e-5)
