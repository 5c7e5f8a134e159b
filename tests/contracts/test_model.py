"""What every model promises; a plug-in passes it by being added to SETTINGS."""

import keyword
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import nn

from fedsplit.models.base import MODELS, AnyModel, Model
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from fedsplit.split import Segment, split

NEEDED: dict[str, dict[str, Any]] = {"vgg11": {"hidden": 16}}
"""Settings without which a model is too large to be built at every cut."""
SETTINGS: list[dict[str, Any]] = [{"kind": kind, **NEEDED.get(kind, {})} for kind in MODELS.shipped] + [
    {"kind": "lenet", "batch_norm": True},
    {"kind": "vgg11", "norm": "group", "hidden": 16},
    {"kind": "resnet18", "stem": "small", "norm": "group"},
]
SHAPES: list[Shape] = [(1, 8, 8), (3, 12, 9)]
CLASSES = 4

models: TypeAdapter[Model] = TypeAdapter(AnyModel)


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def model(request: pytest.FixtureRequest) -> Model:
    return models.validate_python(request.param)


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


def built(model: Model, shape: Shape, seed: int = 0) -> Segment:
    with Seeds(seed).fork("model"):
        return Segment(model.blocks(shape, CLASSES))


def test_images_become_logits(model: Model, shape: Shape) -> None:
    logits = built(model, shape)(torch.rand(3, *shape))
    assert logits.shape == (3, CLASSES)
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_names_are_identifiers_without_dots(model: Model, shape: Shape) -> None:
    names = list(model.blocks(shape, CLASSES))
    assert len(names) >= 2
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in names)


def test_weights_come_from_the_global_stream_alone(model: Model, shape: Shape) -> None:
    first, again, other = (built(model, shape, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_blocks_are_fresh_each_time(model: Model) -> None:
    first, second = (nn.Sequential(model.blocks((1, 8, 8), CLASSES)).state_dict() for _ in range(2))
    assert not {value.data_ptr() for value in first.values()} & {value.data_ptr() for value in second.values()}


def test_every_block_but_the_last_can_be_the_cut(model: Model, shape: Shape) -> None:
    whole = built(model, shape).eval()
    images = torch.rand(3, *shape)
    for name, features in whole.features(images)[:-1]:
        segments = split(model.blocks(shape, CLASSES), name, shape)
        assert segments.cut_shape == features.shape[1:]


def test_in_evaluation_no_image_touches_another(model: Model, shape: Shape) -> None:
    whole = built(model, shape).eval()
    images = torch.rand(4, *shape)
    torch.testing.assert_close(whole(images), torch.cat([whole(image[None]) for image in images]))


def test_every_parameter_learns(model: Model, shape: Shape) -> None:
    whole = built(model, shape)
    whole(torch.rand(8, *shape)).logsumexp(dim=1).square().sum().backward()
    for name, parameter in whole.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_float64_is_no_obstacle(model: Model) -> None:
    whole = built(model, (1, 8, 8)).double()
    assert whole(torch.rand(2, 1, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_it_survives_yaml(model: Model) -> None:
    text = yaml.safe_dump(models.dump_python(model, mode="json"))
    assert models.validate_python(yaml.safe_load(text)) == model


def test_it_refuses_an_unknown_key(model: Model) -> None:
    with pytest.raises(ValidationError, match="surprise"):
        models.validate_python({"kind": model.kind, "surprise": 1})
