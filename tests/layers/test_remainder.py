"""With the shared map it makes the ridge; of the images that were fitted it says what fits to all others say."""

import torch

from fedsplit.layers.remainder import remainder
from fedsplit.layers.site_map import fit_site_map
from fedsplit.layers.sites import sites_of
from fedsplit.numerics.ridge import fit_ridge
from fedsplit.seeding import Seeds

RNG = Seeds(0)("images")
IMAGES = torch.rand(60, 1, 6, 6, generator=RNG).double()
SEEN = 3 + (IMAGES.flatten(1) @ torch.randn(36, 2 * 6 * 8, generator=RNG).double()).view(-1, 2, 6, 8)
AGAIN = SEEN + 0.1 * torch.randn(SEEN.shape, generator=RNG).double()
STRENGTHS = (1e-3,)


def test_it_is_what_the_ridge_says_beyond_the_shared_map():
    shared = fit_site_map(SEEN, IMAGES, sites_of((2, 6, 8), (1, 6, 6)))
    ridge = fit_ridge(SEEN.flatten(1), IMAGES.flatten(1))
    both = shared.predict(AGAIN) + remainder(ridge, shared, SEEN, IMAGES).predict(AGAIN)
    torch.testing.assert_close(both, ridge.predict(AGAIN.flatten(1)).view_as(both))


def test_no_fitted_image_is_guessed_by_a_fit_that_knows_it():
    shared = fit_site_map(SEEN, IMAGES, sites_of((2, 6, 8), (1, 6, 6)))
    ridge = fit_ridge(SEEN.flatten(1), IMAGES.flatten(1), STRENGTHS)
    found = remainder(ridge, shared, SEEN, IMAGES)
    kept = torch.arange(60) != 7
    # The same penalty: its strength is relative to a scatter that had the image.
    scatter = torch.linalg.matrix_norm((flat := SEEN[kept].flatten(1)) - flat.mean(dim=0), ord=2) ** 2
    strength = float(ridge.strength * ridge.axes.values[-1] / scatter)
    other = fit_ridge(SEEN[kept].flatten(1), IMAGES[kept].flatten(1), (strength,))
    expected = other.predict(SEEN[7:8].flatten(1)).view(1, 1, 6, 6) - shared.predict(SEEN[7:8])
    torch.testing.assert_close(found.known[7:8], expected)
    assert (found.known[7] - found.predict(SEEN[7:8])[0]).abs().max() > 1e-3
