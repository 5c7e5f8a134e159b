from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from fedsplit.models.resnet18 import ResNet18
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from fedsplit.split import Segment, split

VARIANTS = [ResNet18(), ResNet18(stem="small"), ResNet18(norm="group"), ResNet18(stem="small", norm="group", groups=8)]
LAYERS = [f"layer{layer}_block{number}" for layer in (1, 2, 3, 4) for number in (1, 2)]


@pytest.fixture(autouse=True)
def streams() -> Iterator[None]:
    with Seeds(0).fork("test"):
        yield


@pytest.fixture(params=VARIANTS, ids=lambda model: f"{model.stem}-{model.norm}")
def model(request: pytest.FixtureRequest) -> ResNet18:
    return request.param


def used(model: ResNet18, shape: Shape, classes: int = 5) -> Segment:
    """A network whose running statistics, scales and biases are no longer those of a fresh one."""
    whole = Segment(model.blocks(shape, classes))
    for _ in range(3):
        whole(torch.rand(4, *shape))
    for parameter in whole.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter)
    return whole


def test_it_computes_what_torchvisions_network_computes() -> None:
    whole = used(ResNet18(), (3, 64, 64)).eval()
    reference = resnet18(weights=None, num_classes=5).eval()
    values = whole.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), values, strict=True)))
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(whole(images), reference(images))


def test_fresh_weights_are_torchvisions() -> None:
    with Seeds(3).fork("model"):
        ours = nn.Sequential(ResNet18().blocks((3, 64, 64), 5)).state_dict()
    with Seeds(3).fork("model"):
        theirs = resnet18(weights=None, num_classes=5).state_dict()
    assert all(torch.equal(*pair) for pair in zip(ours.values(), theirs.values(), strict=True))


@pytest.mark.parametrize("settings", [{}, {"norm": "group"}], ids=str)
def test_it_has_as_many_parameters_as_torchvisions(settings: dict[str, Any]) -> None:
    with torch.device("meta"):
        ours, theirs = nn.Sequential(ResNet18(**settings).blocks((3, 224, 224), 1000)), resnet18(weights=None)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (ours, theirs)]
    assert counts == [11_689_512, 11_689_512]


def test_block_names_are_those_of_the_docstring() -> None:
    with torch.device("meta"):
        assert list(ResNet18().blocks((3, 64, 64), 5)) == [
            "conv1",
            "norm1",
            "relu1",
            "pool1",
            *LAYERS,
            "pool",
            "logits",
        ]
        small = ResNet18(stem="small").blocks((3, 64, 64), 5)
    assert list(small) == ["conv1", "norm1", "relu1", *LAYERS, "pool", "logits"]


def test_the_small_stem_keeps_the_size_of_the_image() -> None:
    with torch.device("meta"):
        for name, maps in {"relu1": (64, 28, 28), "layer1_block2": (64, 28, 28), "layer4_block2": (512, 4, 4)}.items():
            blocks = ResNet18(stem="small").blocks((1, 28, 28), 5)
            assert split(blocks, name, (1, 28, 28)).cut_shape == maps
        assert split(ResNet18().blocks((1, 28, 28), 5), "pool1", (1, 28, 28)).cut_shape == (64, 7, 7)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_another_first_convolution_follows_the_same_law(stem: Any) -> None:
    weight = ResNet18(stem=stem).blocks((1, 28, 28), 5)["conv1"].get_parameter("weight")
    width = 7 if stem == "imagenet" else 3
    assert weight.shape == (64, 1, width, width)
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * width**2)) ** 0.5, rel=0.15)


def test_every_cut_composes_to_the_whole_and_nothing_is_overwritten(model: ResNet18) -> None:
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


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_with_group_normalisation_samples_stay_apart_even_in_training(stem: Any) -> None:
    whole = used(ResNet18(stem=stem, norm="group"), (1, 28, 28))
    assert not list(whole.buffers())
    norms = [module for module in whole.modules() if "Norm" in type(module).__name__]
    assert len(norms) == 20 and all(type(module) is nn.GroupNorm and module.num_groups == 32 for module in norms)
    images = torch.rand(3, 1, 28, 28)
    alone = torch.cat([whole(image[None]) for image in images])
    torch.testing.assert_close(whole(images), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 8, 28, 33])
def test_any_image_size_fits(model: ResNet18, side: int) -> None:
    blocks = model.blocks((1, side, side + 1), 4)
    assert nn.Sequential(blocks)(torch.rand(2, 1, side, side + 1)).shape == (2, 4)


@pytest.mark.parametrize("groups", [0, 3, 48, 128])
def test_it_refuses_groups_that_do_not_divide_the_features(groups: Any) -> None:
    with pytest.raises(ValueError, match="should be 1, 2, 4, 8, 16, 32 or 64"):
        ResNet18(norm="group", groups=groups)
