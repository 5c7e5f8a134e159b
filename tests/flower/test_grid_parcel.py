import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socketpair

import pytest

pytest.importorskip("flwr")

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsplit.flower.grid.array import to_record, to_tensors
from fedsplit.flower.grid.hallway import Hallway
from fedsplit.flower.grid.letter import sealed
from fedsplit.flower.grid.line import Line
from fedsplit.flower.grid.parcel import Parcel
from fedsplit.flower.grid.release import identify
from fedsplit.flower.grid.segment import Address, Segment

LARGE = 1 << 18


Ends = tuple[Line, Line]


@contextmanager
def joined(*, shares_memory: bool) -> Iterator[Ends]:
    """Both ends of one line."""
    near, far = (Line(end, shares_memory=shares_memory) for end in socketpair())
    yield near, far
    near.close()
    far.close()


@pytest.fixture(params=[True, False], ids=["shared memory", "carried"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with joined(shares_memory=request.param) as ends:
        yield ends


def message(*tensors: Tensor, **values: str) -> Message:
    identify(1)
    arrays = to_record({str(number): tensor for number, tensor in enumerate(tensors)})
    return Message(RecordDict({"arrays": arrays, "values": ConfigRecord(dict(values))}), 2, "query")


def parcel_of(ends: Ends, *messages: Message) -> Parcel:
    sealer = ends[0].sealer()
    for each in messages:
        sealer.add(sealed(each))
    return sealer.parcel()


def arrived(ends: Ends, parcel: Parcel) -> Parcel:
    """The same at the other end."""
    near, far = ends
    near.send(parcel)
    while (received := far.receive()) is None:
        near.flush()
    return received


def found(opened: Message) -> list[Tensor]:
    # Not by `array_records`: what that returns is a cycle, and lives until garbage is collected.
    record = opened.content["arrays"]
    assert isinstance(record, ArrayRecord)
    return list(to_tensors(record).values())


@given(
    st.lists(st.lists(st.integers(0, 3).map(lambda size: size * 20_000), max_size=3), max_size=4),
    st.booleans(),
)
def test_messages_come_out_as_they_went_in(sizes: list[list[int]], shared: bool) -> None:
    messages = [message(*(torch.rand(size) for size in row), name=str(row)) for row in sizes]
    with joined(shares_memory=shared) as ends:
        for _ in range(2):
            opened = list(arrived(ends, parcel_of(ends, *messages)).opened())
            assert [each.content for each in opened] == [each.content for each in messages]
            assert [each.metadata for each in opened] == [each.metadata for each in messages]
            assert all(tensor.data_ptr() % 64 == 0 for each in opened for tensor in found(each))


def test_what_is_sealed_does_not_change_with_its_tensors(ends: Ends) -> None:
    small, large = torch.zeros(3), torch.zeros(LARGE)
    sealer = ends[0].sealer()
    for number in range(3):
        sealer.add(sealed(message(small.fill_(number), large.fill_(number))))
    parcel = arrived(ends, sealer.parcel())
    assert [[int(tensor[0]) for tensor in found(each)] for each in parcel.opened()] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_what_is_opened_belongs_to_whoever_has_it(ends: Ends, count: int) -> None:
    kept: list[Tensor] = []
    for number in range(5):
        parcel = parcel_of(ends, *(message(torch.full((LARGE,), float(number))) for _ in range(count)))
        kept += [found(each)[0].add_(0.5) for each in arrived(ends, parcel).opened()]
    assert [tensor.unique().tolist() for tensor in kept] == [
        [number + 0.5] for number in range(5) for _ in range(count)
    ]


def test_a_segment_is_written_again_when_nothing_in_it_is_looked_at_any_more(ends: Ends) -> None:
    def travelled(number: int) -> tuple[Segment | None, Tensor]:
        parcel = arrived(ends, parcel_of(ends, message(torch.full((LARGE,), float(number)))))
        return parcel.segment, *(found(each)[0] for each in parcel.opened())

    first, tensor = travelled(1)
    column = tensor.view(512, 512)[:, 3]
    del tensor
    second, other = travelled(2)
    assert second is not first
    assert column.unique().tolist() == [1]
    del column
    third, _ = travelled(3)
    assert third is first
    assert other.unique().tolist() == [2]


def test_what_was_carried_is_written_over_by_the_next() -> None:
    with joined(shares_memory=False) as ends:
        parcels = [parcel_of(ends, message(torch.zeros(LARGE))) for _ in range(2)]
        assert parcels[0].segment is not parcels[1].segment, "both are still to be sent"
        for parcel in parcels:
            arrived(ends, parcel)
        assert parcel_of(ends, message(torch.zeros(LARGE))).segment is parcels[0].segment


def test_a_small_part_keeps_no_large_segment(ends: Ends) -> None:
    parcel = arrived(ends, parcel_of(ends, message(torch.zeros(LARGE)), message(torch.ones(LARGE // 8))))
    small = [found(each)[0] for each in parcel.opened()][1]
    assert parcel.segment is not None
    assert parcel.segment.free
    assert small.unique().tolist() == [1]


def test_a_parcel_that_is_never_finished_keeps_no_segment(ends: Ends) -> None:
    sealer = ends[0].sealer()
    sealer.add(sealed(message(torch.zeros(LARGE))))
    sealer.discard()
    parcel = parcel_of(ends, message(torch.zeros(LARGE)))
    assert parcel.segment is sealer.parcel().segment
    opening = arrived(ends, parcel).opened()
    next(opening)
    opening.close()
    gc.collect()
    assert parcel_of(ends, message(torch.zeros(LARGE))).segment is parcel.segment


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=6), st.booleans())
def test_packed_messages_come_out_in_order_whatever_they_share(sent: list[tuple[int, int]], shared: bool) -> None:
    models = [torch.full((LARGE // 4,), float(number)) for number in range(4)]
    messages = [message(models[model], torch.full((size * LARGE // 8,), -1.0)) for model, size in sent]
    with joined(shares_memory=shared) as ends:
        # What is looked at keeps its memory, so every parcel is opened before the next is filled, as by a worker.
        opened = [each for parcel in ends[0].packed(messages) for each in arrived(ends, parcel).opened()]
        assert [each.content for each in opened] == [each.content for each in messages]
        assert [each.metadata for each in opened] == [each.metadata for each in messages]


def test_what_many_messages_share_is_written_once_and_opened_for_each(ends: Ends) -> None:
    model = torch.zeros(LARGE)
    (parcel,) = ends[0].packed(message(model) for _ in range(10))
    assert parcel.end == Segment.FIRST + model.nbytes
    for each in arrived(ends, parcel).opened():
        (tensor,) = found(each)
        assert tensor.unique().tolist() == [0]
        tensor += 1


def test_what_is_large_and_shared_by_none_leaves_before_the_next_is_sealed(ends: Ends) -> None:
    sizes = [3, 8 * LARGE, 3, LARGE // 4, 3, LARGE, 3]
    filled: list[int] = []

    def messages() -> Iterator[Message]:
        for size in sizes:
            filled.append(size)
            yield message(torch.zeros(size))

    left = [(len(parcel.letters), len(filled)) for parcel in ends[0].packed(messages())]
    assert left == [(2, 3), (4, 7), (1, 7)]


def test_large_arrays_of_flowers_own_travel_beside_the_parcel_too(ends: Ends) -> None:
    sent = message()
    sent.content.array_records["arrays"]["stock"] = Array(torch.zeros(LARGE))
    parcel = parcel_of(ends, sent)
    assert isinstance(parcel.letters[0][0], tuple)
    assert [each.content for each in arrived(ends, parcel).opened()] == [sent.content]


def test_a_segment_has_no_name_and_grows_under_both_ends() -> None:
    segment = Segment.create()
    other = Segment.open(segment.address)
    segment.view(64, 3)[:] = b"one"
    other.view(5 << 20, 3)[:] = b"two"
    assert bytes(segment.view(5 << 20, 3)) == b"two"
    assert bytes(other.view(64, 3)) == b"one"
    held = segment.view(64, 3)
    other.close()
    segment.close()
    assert bytes(held) == b"one"
    assert not any("fedsplit" in path.name for path in Path("/dev/shm").iterdir())


def test_an_invitation_is_accepted_only_where_memory_is_the_same() -> None:
    hallway = Hallway()
    invitation = hallway.invitation()
    assert invitation == hallway.invitation(), "one that was given stays good"
    assert invitation.can_be_accepted()
    assert not invitation._replace(host="elsewhere").can_be_accepted()
    assert not invitation._replace(token=b"0" * 16).can_be_accepted()
    assert not invitation._replace(address=Address(os.getpid(), 10**6)).can_be_accepted()
    hallway.close()
    assert not invitation.can_be_accepted()


def test_where_memory_cannot_be_shared_nobody_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsplit.flower.grid.hallway.host", lambda: "")
    hallway = Hallway()
    assert not hallway.invitation().can_be_accepted()
    hallway.close()
