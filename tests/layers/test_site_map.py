"""The shared map undoes a client that is linear at each site, and guesses the mean image from nothing."""

import torch

from fedsplit.layers.site_map import fit_site_map
from fedsplit.layers.sites import sites_of
from fedsplit.seeding import Seeds

IMAGES = torch.rand(120, 1, 8, 8, generator=Seeds(0)("images"), dtype=torch.float64)


def test_an_invertible_layer_on_every_row_is_undone():
    weight = torch.randn(8, 20, generator=Seeds(0)("weight"), dtype=torch.float64)
    smashed = IMAGES @ weight + 1
    fitted = fit_site_map(smashed[:100], IMAGES[:100], sites_of((1, 8, 20), (1, 8, 8)))
    torch.testing.assert_close(fitted.predict(smashed[100:]), IMAGES[100:], rtol=1e-5, atol=1e-5)
    assert fitted.error < 1e-8


def test_the_data_tells_rows_from_patches():
    shuffled = IMAGES @ torch.randn(8, 8, generator=Seeds(0)("weight"), dtype=torch.float64)
    assert fit_site_map(shuffled, IMAGES, sites_of((1, 8, 8), (1, 8, 8))).sites.name == "rows"
    blurred = torch.nn.functional.conv2d(IMAGES, torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9, padding=1)
    assert fit_site_map(blurred + IMAGES, IMAGES, sites_of((1, 8, 8), (1, 8, 8))).sites.name == "patches"


def test_constant_smashed_data_gives_the_mean_image():
    fitted = fit_site_map(torch.ones(120, 1, 8, 20).double(), IMAGES, sites_of((1, 8, 20), (1, 8, 8)))
    mean = IMAGES.mean(dim=0, keepdim=True)
    torch.testing.assert_close(fitted.predict(torch.ones(2, 1, 8, 20).double()), mean.expand(2, -1, -1, -1))
