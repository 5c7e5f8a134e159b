"""The fingerprint is the same for the same values, and another one for any other."""

import torch
from torch import nn

from fedsplit.numerics.fingerprint import fingerprint, fingerprint_of
from fedsplit.seeding import Seeds


def network() -> nn.Module:
    with Seeds(0).fork("network"):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_equal_modules_agree():
    assert fingerprint(network()) == fingerprint(network())


def test_a_parameter_that_moved_in_its_last_bit_shows():
    changed = network()
    with torch.no_grad():
        weight = next(changed.parameters())
        weight.copy_(weight.nextafter(weight + 1))
    assert fingerprint(changed) != fingerprint(network())


def test_a_buffer_that_moved_shows():
    changed = network()
    changed(torch.ones(2, 1, 4, 4))
    assert fingerprint(changed) != fingerprint(network())


def test_names_types_and_shapes_count():
    zeros = torch.zeros(4)
    prints = [fingerprint_of([zeros]), fingerprint_of([zeros.view(2, 2)]), fingerprint_of([zeros.double()])]
    prints += [fingerprint_of([zeros.int()]), fingerprint_of([zeros[:2], zeros[2:]]), fingerprint_of([])]
    named = [fingerprint(nn.ParameterDict({name: nn.Parameter(zeros)})) for name in ("a", "b")]
    assert len({*prints, *named}) == 8


def test_layout_in_memory_does_not_count():
    square = torch.arange(4.0).view(2, 2)
    assert fingerprint_of([square.T]) == fingerprint_of([square.T.contiguous()])


def test_scalars_and_empty_tensors_have_one():
    assert fingerprint_of([torch.tensor(1)]) != fingerprint_of([torch.tensor(2)])
    assert fingerprint_of([torch.zeros(0)]) == fingerprint_of([torch.zeros(0)])
