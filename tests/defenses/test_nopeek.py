from pathlib import Path

import torch
from torch import Generator

from fedsplit.defenses.nopeek import NoPeek
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client
from fedsplit.models.lenet import LeNet
from fedsplit.numerics.distance_correlation import distance_correlation
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import federation, holding, images, plan_of, train


def test_alone_it_moves_every_parameter_of_the_client() -> None:
    plan = plan_of(model=LeNet(channels=2), cut="relu2", defense=NoPeek(weight=1.0), precision="float64")
    client = Client(plan, plan.home(), holding(images(8, seed=1)), {}, Generator())
    before = {name: value.clone() for name, value in client.segment.state_dict().items()}
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.zeros_like(crossing.smashed)))
    after = client.segment.state_dict()
    # A bias of the first convolution shifts all samples alike, and so their distances only where a ReLU bends.
    assert {name for name, value in before.items() if not torch.equal(after[name], value)} >= {
        name for name in before if name.endswith("weight")
    }


def test_training_with_it_makes_smashed_data_depend_less_on_the_images(tmp_path: Path) -> None:
    def dependence(plan: Plan) -> float:
        protocol = SplitFedV1(rounds=15, batch_size=7)
        standing = train(tmp_path / type(plan.defense).__name__, plan, federation(), protocol).standing
        segment = plan.prepare(plan.segments().client, standing.client, training=False)
        shown = images(60, seed=50).pixels
        with torch.no_grad():
            return float(distance_correlation(shown, segment(shown)))

    adam = Adam(learning_rate=0.01)
    defended = dependence(plan_of(model=LeNet(channels=2), cut="relu2", defense=NoPeek(weight=5.0), optimizer=adam))
    assert defended < dependence(plan_of(model=LeNet(channels=2), cut="relu2", optimizer=adam)) - 0.05
