import torch
from sklearn.datasets import load_digits

from fedsplit.datasets.digits import Digits


def test_levels_are_sixteenths_and_rows_are_scikit_learns() -> None:
    images = Digits().load()
    bundled = load_digits()
    reference = torch.from_numpy(bundled.images) / 16
    assert (images.pixels[:, 0] - reference).abs().max() <= 0.5 / 255 + 1e-7
    assert images.labels.tolist() == bundled.target.tolist()
    assert len(images.pixels.unique()) == 17
