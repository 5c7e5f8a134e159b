"""Mixed precision: training steps are those of torch's autocast, and everything around them is float32."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam
from fedsplit.models.lenet import LeNet
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from tests.federation.builders import auxiliary, federation, joined, plan_of, train, whole_model
from tests.protocols.laws import epochs, optimizer_of

PROTOCOLS: list[Protocol] = [kind(rounds=2, batch_size=6) for kind in (SplitFedV1, SplitFedV2, Sequential, Parallel)]
MODEL = {"model": LeNet(channels=2, batch_norm=True), "cut": "norm1", "optimizer": Adam(state="keep")}


def under_autocast(plan, protocol: Protocol, data) -> nn.Module:
    """One uncut model, trained as torch's documentation says."""
    model = whole_model(plan)
    optimizer = optimizer_of(plan, model)
    for number in range(1, protocol.rounds + 1):
        for pixels, labels in epochs(plan, protocol, data.holdings[0], number, 0):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(pixels)
            optimizer.zero_grad()
            functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("head", [None, "logits"], ids=["two parts", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.kind)
def test_one_client_in_bfloat16_equals_joint_training_under_autocast(
    protocol: Protocol, head: str | None, tmp_path: Path
) -> None:
    plan, data = plan_of(**MODEL, head=head, precision="bfloat16"), federation((17,))
    found = joined(train(tmp_path / "mixed", plan, data, protocol).standing)
    expected = under_autocast(plan, protocol, data).state_dict()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    single = plan.model_copy(update={"precision": "float32"})
    other = joined(train(tmp_path / "single", single, data, protocol).standing)
    assert any(not torch.equal(found[name], other[name]) for name in found)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.kind)
def test_what_crosses_in_training_is_rounded_and_what_is_deployed_is_not(protocol: Protocol, tmp_path: Path) -> None:
    plan, data = plan_of(**MODEL, head="logits", precision="bfloat16"), federation((14, 9))
    trained = train(tmp_path, plan, data, protocol, Recording(training=(2,), inference=(2,)))
    for exchange in trained.ledger.page(2).exchanges:
        assert exchange.head_gradient is not None
        for crossed in (exchange.smashed, exchange.head_gradient):
            assert crossed.dtype == torch.float32
    leak = expose(plan, trained, data, auxiliary(), Observation("inference", 2, defended=True)).leak
    assert leak.smashed is not None
    assert leak.smashed.dtype == torch.float32
    assert not torch.equal(leak.smashed, leak.smashed.bfloat16().float())


def test_the_linear_layer_before_the_cut_sends_eight_bits_of_mantissa(tmp_path: Path) -> None:
    plan, data = plan_of(precision="bfloat16"), federation((14, 9))
    trained = train(tmp_path, plan, data, recording=Recording(training=(1,)))
    for exchange in trained.ledger.page(1).exchanges:
        for crossed in (exchange.smashed, exchange.gradient):
            assert crossed.dtype == torch.float32
            assert torch.equal(crossed, crossed.bfloat16().float())
            assert crossed.abs().sum() > 0
