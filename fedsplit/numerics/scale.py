"""How large a perturbation is: in units of the tensor, or as a multiple of the tensor's own spread."""

from torch import Tensor


def spread(values: Tensor) -> Tensor:
    """(n, ...) -> (n, 1, ...): the standard deviation of each sample, so that no sample's noise tells of another's."""
    deviations = values.flatten(start_dim=1).std(dim=1, correction=0)
    return deviations.reshape(-1, *([1] * (values.dim() - 1)))
