"""A short string that changes when any value does: proof that weights moved, or that nobody touched them."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def fingerprint(module: nn.Module) -> str:
    """The fingerprint of a module's parameters and persistent buffers, by name and in order."""
    state = module.state_dict()
    return hashlib.sha256("".join((*state, fingerprint_of(state.values()))).encode()).hexdigest()


def fingerprint_of(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of the tensors' types, shapes and bytes, in their order; the device they are on plays no part."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
