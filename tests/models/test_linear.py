import torch
from torch.nn import functional

from fedsplit.models.linear import Linear
from fedsplit.split import split


def test_it_is_two_dense_layers_over_a_layer_on_every_row() -> None:
    blocks = Linear(width=5).blocks((2, 4, 3), 7)
    state = torch.nn.Sequential(blocks).state_dict()
    images = torch.rand(6, 2, 4, 3)
    rows = functional.relu(torch.einsum("nchw,ow->ncho", images, state["rows.0.weight"]) + state["rows.0.bias"])
    hidden = functional.relu(rows.reshape(6, -1) @ state["hidden.1.weight"].T + state["hidden.1.bias"])
    logits = hidden @ state["logits.weight"].T + state["logits.bias"]
    torch.testing.assert_close(torch.nn.Sequential(blocks)(images), logits)


def test_smashed_rows_keep_the_picture_apart_by_channel_and_row() -> None:
    assert split(Linear(width=5).blocks((2, 4, 3), 7), "rows", (2, 4, 3)).cut_shape == (2, 4, 5)
    assert split(Linear(width=5).blocks((2, 4, 3), 7), "hidden", (2, 4, 3)).cut_shape == (5,)


def test_the_published_width_is_the_default() -> None:
    assert Linear().width == 500
    with torch.device("meta"):
        blocks = Linear().blocks((1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in torch.nn.Sequential(blocks).parameters()) == (
        28 * 500 + 500 + 28 * 500 * 500 + 500 + 500 * 10 + 10
    )
