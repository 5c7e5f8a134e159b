"""Kernel ridge against scikit-learn, and its leave-one-out error against leaving one out."""

import torch
from sklearn.kernel_ridge import KernelRidge as Reference

from fedsplit.numerics.kernel_ridge import fit_kernel_ridge
from fedsplit.seeding import Seeds


def problem(count: int):
    rng = Seeds(0)("problem")
    features = torch.rand(count, 3, generator=rng, dtype=torch.float64)
    return features, torch.stack([(4 * features[:, 0]).sin(), features.prod(dim=1)], dim=1)


def test_predictions_and_left_out_errors_are_scikit_learns():
    features, targets = problem(40)
    fit = fit_kernel_ridge(features[:30], targets[:30])

    def reference(known: torch.Tensor, values: torch.Tensor) -> Reference:
        return Reference(alpha=fit.strength, kernel="rbf", gamma=1 / (2 * fit.width**2)).fit(known, values)

    mean = targets[:30].mean(dim=0)
    expected = reference(features[:30], targets[:30] - mean).predict(features[30:])
    torch.testing.assert_close(fit.predict(features[30:]) - mean, torch.as_tensor(expected), rtol=1e-6, atol=1e-8)
    others = torch.arange(1, 30)
    first = reference(features[others], targets[others] - mean).predict(features[:1])
    expected = targets[:1] - mean - torch.as_tensor(first)
    torch.testing.assert_close(fit.left_out[:1], expected, rtol=1e-6, atol=1e-8)


def test_a_smooth_function_is_learned():
    features, targets = problem(200)
    fit = fit_kernel_ridge(features[:150], targets[:150])
    off = (fit.predict(features[150:]) - targets[150:]).square().mean()
    assert off < 1e-3 * targets.var()


def test_features_that_are_all_alike_give_the_mean():
    targets = problem(10)[1]
    fit = fit_kernel_ridge(torch.zeros(10, 2, dtype=torch.float64), targets)
    torch.testing.assert_close(fit.predict(torch.zeros(1, 2, dtype=torch.float64)), targets.mean(dim=0, keepdim=True))
