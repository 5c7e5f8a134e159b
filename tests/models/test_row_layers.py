import torch
from torch.nn import functional

from fedsplit.models.row_layers import RowLayers
from fedsplit.split import split


def test_it_is_layers_on_every_row_and_one_over_all_of_them() -> None:
    blocks = RowLayers(widths=(5, 6)).blocks((2, 4, 3), 7)
    state = torch.nn.Sequential(blocks).state_dict()
    images = torch.rand(6, 2, 4, 3)
    first = functional.relu(torch.einsum("nchw,ow->ncho", images, state["rows1.0.weight"]) + state["rows1.0.bias"])
    second = torch.einsum("nchw,ow->ncho", first, state["rows2.weight"]) + state["rows2.bias"]
    logits = second.reshape(6, -1) @ state["logits.1.weight"].T + state["logits.1.bias"]
    torch.testing.assert_close(torch.nn.Sequential(blocks)(images), logits)
    assert (second < 0).any(), "the last of several has no ReLU"


def test_a_single_layer_has_its_relu() -> None:
    blocks = RowLayers(widths=(5,)).blocks((1, 4, 3), 7)
    assert (blocks["rows1"](torch.randn(8, 1, 4, 3)) >= 0).all()


def test_the_last_hidden_layer_keeps_the_rows_apart() -> None:
    segments = split(RowLayers(widths=(5, 6, 7)).blocks((2, 4, 3), 7), "rows1", (2, 4, 3))
    assert segments.cut_shape == (2, 4, 5)
    hidden, _ = segments.behind
    assert hidden(torch.rand(3, 2, 4, 5)).shape == (3, 2, 4, 7)


def test_the_published_widths_are_the_default() -> None:
    with torch.device("meta"):
        blocks = RowLayers().blocks((1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in torch.nn.Sequential(blocks).parameters()) == (
        28 * 500 + 500 + 500 * 500 + 500 + 500 * 28 + 28 + 28 * 500 + 500 + 28 * 500 * 10 + 10
    )
