"""Networks around a cut of any shape: what goes in and out, and what each sees of the other's places."""

import pytest
import torch

from fedsplit.layers.feature_space import FeatureCritic, decoder, pilot
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

SHAPES: list[tuple[tuple[int, ...], Shape]] = [
    ((30,), (1, 8, 8)),
    ((1, 8, 20), (1, 8, 8)),
    ((3, 8, 20), (3, 8, 8)),
    ((4, 6, 6), (1, 8, 8)),
    ((4, 4, 4), (3, 9, 7)),
    ((16, 16, 16), (3, 32, 32)),
    ((5, 40, 3), (1, 8, 8)),
]


@pytest.mark.parametrize(("cut", "image"), SHAPES)
@pytest.mark.parametrize("rectified", [False, True])
def test_shapes_go_there_and_back(cut: tuple[int, ...], image: Shape, rectified: bool):
    images = torch.rand(5, *image, generator=Seeds(0)("images"))
    with Seeds(0).fork("networks"):
        there, back, critic = (
            pilot(cut, image, 12, rectified=rectified),
            decoder(cut, image, 12),
            FeatureCritic(cut, image, 12),
        )
    smashed = there(images)
    assert smashed.shape == (5, *cut) and back(smashed).shape == images.shape and critic(smashed).shape == (5,)
    assert bool((smashed >= 0).all()) is rectified


def test_pilots_see_what_a_client_sees():
    """A row of the image, or the places around."""
    images = torch.rand(1, 1, 16, 16, generator=Seeds(0)("images"))
    other = images.clone()
    other[0, 0, 3, 5] += 1
    with Seeds(0).fork("pilots"):
        rows, map_ = (
            pilot((1, 16, 20), (1, 16, 16), 12, rectified=False),
            pilot((6, 8, 8), (1, 16, 16), 60, rectified=False),
        )
    assert (rows(images) != rows(other)).any(dim=-1).nonzero().tolist() == [[0, 0, 3]]
    touched = (map_(images) != map_(other)).any(dim=1).nonzero()[:, 1:]
    assert len(touched) and int((touched - torch.tensor([1, 2])).abs().max()) <= 3


def test_a_decoder_begins_without_knowledge():
    with Seeds(0).fork("decoder"):
        assert not decoder((1, 8, 20), (1, 8, 8), 12)(torch.rand(3, 1, 8, 20)).any()


def test_the_penalty_is_that_of_the_whole_gradient():
    """Of a linear critic, whose gradient is everywhere the same: its length, less one, squared."""
    with Seeds(0).fork("critic"):
        critic = FeatureCritic((2, 3), (1, 8, 8), 4)
    critic.whole = torch.nn.Linear(6, 1)
    length = critic.whole.weight.norm()
    one, other = torch.rand(2, 7, 2, 3, generator=Seeds(0)("smashed"))
    found = critic.penalty(one, other, torch.rand(7, generator=Seeds(0)("between")))
    assert found.item() == pytest.approx((length.item() - 1) ** 2, rel=1e-5)
    found.backward()
    assert critic.whole.weight.grad is not None and critic.whole.weight.grad.any()
