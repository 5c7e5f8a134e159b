from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import vgg11, vgg11_bn

from fedsplit.models.vgg11 import VGG11
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from fedsplit.split import Segment, split

VARIANTS = [VGG11(hidden=8), VGG11(norm="batch", hidden=8), VGG11(norm="group", groups=8, hidden=8)]
THEIRS = {"none": vgg11, "batch": vgg11_bn}


@pytest.fixture(autouse=True)
def streams() -> Iterator[None]:
    with Seeds(0).fork("test"):
        yield


@pytest.fixture(params=VARIANTS, ids=lambda model: model.norm)
def model(request: pytest.FixtureRequest) -> VGG11:
    return request.param


def used(model: VGG11, shape: Shape, classes: int = 5) -> Segment:
    """A network whose running statistics, scales and biases are no longer those of a fresh one."""
    whole = Segment(model.blocks(shape, classes))
    for _ in range(3):
        whole(torch.rand(4, *shape))
    for parameter in whole.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter)
    return whole


@pytest.mark.parametrize("size", [(64, 64), (47, 90)], ids=str)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_it_computes_what_torchvisions_network_computes(norm: Any, size: tuple[int, int]) -> None:
    whole = used(VGG11(norm=norm), (3, *size)).eval()
    with torch.device("meta"):
        reference = THEIRS[norm](weights=None, num_classes=5).eval()
    values = whole.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), values, strict=True)), assign=True)
    images = torch.rand(2, 3, *size)
    assert torch.equal(whole(images), reference(images))


def test_fresh_weights_are_torchvisions() -> None:
    with Seeds(3).fork("model"):
        ours = nn.Sequential(VGG11(norm="batch").blocks((3, 64, 64), 5)).state_dict()
    with Seeds(3).fork("model"):
        theirs = vgg11_bn(weights=None, num_classes=5).state_dict()
    assert all(torch.equal(*pair) for pair in zip(ours.values(), theirs.values(), strict=True))


@pytest.mark.parametrize(("norm", "like", "count"), [
    ("none", "none", 132_863_336), ("batch", "batch", 132_868_840), ("group", "batch", 132_868_840),
])  # fmt: skip
def test_it_has_as_many_parameters_as_torchvisions(norm: Any, like: str, count: int) -> None:
    with torch.device("meta"):
        ours = nn.Sequential(VGG11(norm=norm).blocks((3, 224, 224), 1000))
        theirs = THEIRS[like](weights=None)
    for network in (ours, theirs):
        assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_block_names_are_those_of_the_docstring() -> None:
    names = [
        "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "conv4", "relu4", "pool3",
        "conv5", "relu5", "conv6", "relu6", "pool4", "conv7", "relu7", "conv8", "relu8", "pool5",
        "average", "dense1", "dense2", "logits",
    ]  # fmt: skip
    assert list(VGG11(hidden=8).blocks((1, 28, 28), 3)) == names
    normalised = list(VGG11(norm="group", hidden=8).blocks((1, 28, 28), 3))
    assert [name for name in normalised if not name.startswith("norm")] == names
    assert [normalised[normalised.index(f"conv{number}") + 1] for number in range(1, 9)] == [
        f"norm{number}" for number in range(1, 9)
    ]


def test_hidden_and_dropout_are_those_of_both_dense_layers() -> None:
    blocks = VGG11(hidden=6, dropout=0.25).blocks((1, 28, 28), 3)
    weights = [blocks[name].state_dict() for name in ("dense1", "dense2", "logits")]
    assert [tuple(next(iter(state.values())).shape) for state in weights] == [(6, 512 * 49), (6, 6), (3, 6)]
    rates = [module.p for block in blocks.values() for module in block.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.25, 0.25]


def test_every_cut_composes_to_the_whole_and_nothing_is_overwritten(model: VGG11) -> None:
    shape = (1, 28, 28)
    whole = used(model, shape).eval()
    images = torch.rand(2, *shape)
    logits = whole(images)
    for name in whole.names[:-1]:
        segments = split(model.blocks(shape, 5), name, shape)
        segments.whole.load_state_dict(whole.state_dict())
        smashed = segments.client.eval()(images).detach()
        kept = smashed.clone()
        answer = segments.server.eval()(smashed.requires_grad_())
        assert torch.equal(answer, logits), name
        assert torch.equal(smashed, kept), name
        answer.sum().backward()
        assert smashed.grad is not None and smashed.grad.isfinite().all(), name


def test_with_group_normalisation_samples_stay_apart_even_in_training() -> None:
    whole = used(VGG11(norm="group", hidden=8, dropout=0), (1, 28, 28))
    assert not list(whole.buffers())
    norms = [module for module in whole.modules() if "Norm" in type(module).__name__]
    assert len(norms) == 8 and all(type(module) is nn.GroupNorm and module.num_groups == 32 for module in norms)
    images = torch.rand(3, 1, 28, 28)
    alone = torch.cat([whole(image[None]) for image in images])
    torch.testing.assert_close(whole(images), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 8, 28, 31, 33])
def test_any_image_size_fits(model: VGG11, side: int) -> None:
    blocks = model.blocks((1, side, side + 1), 4)
    assert nn.Sequential(blocks)(torch.rand(2, 1, side, side + 1)).shape == (2, 4)


def test_a_pool_halves_what_can_be_halved_and_passes_on_the_rest() -> None:
    images = torch.rand(1, 64, 1, 5)
    pool = VGG11(hidden=8).blocks((1, 1, 5), 4)["pool1"]
    assert torch.equal(pool(images), images[..., :4].unflatten(3, (2, 2)).amax(dim=4))


@pytest.mark.parametrize(("settings", "reason"), [
    ({"norm": "group", "groups": 3}, "should be 1, 2, 4, 8, 16, 32 or 64"),
    ({"norm": "layer"}, "should be 'none', 'batch' or 'group'"),
    ({"hidden": 0}, "greater than 0"),
    ({"dropout": 1.0}, "less than 1"),
])  # fmt: skip
def test_it_refuses_settings_out_of_range(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VGG11(**settings)
