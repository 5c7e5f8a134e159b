import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr")

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsplit.flower.grid.array import to_record, to_tensors
from fedsplit.flower.grid.hallway import Hallway
from fedsplit.flower.grid.parcel import Parcel, Sealer
from fedsplit.flower.grid.release import identify
from fedsplit.flower.grid.segment import Address, Inbox, Outbox, Segment

LARGE = 1 << 18


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    outbox = Outbox()
    yield outbox
    outbox.close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """The other end; here in the same process, but mapped a second time."""
    inbox = Inbox()
    yield inbox
    inbox.close()


def message(*tensors: Tensor, **values: str) -> Message:
    identify(1)
    arrays = to_record({str(number): tensor for number, tensor in enumerate(tensors)})
    return Message(RecordDict({"arrays": arrays, "values": ConfigRecord(dict(values))}), 2, "query")


def sealed(outbox: Outbox | None, *messages: Message, keeps: bool = False) -> Parcel:
    sealer = Sealer(outbox, keeps=keeps)
    for each in messages:
        sealer.add(each)
    return sealer.parcel()


def found(opened: Message) -> list[Tensor]:
    # Not by `array_records`: what that returns is a cycle, and lives until garbage is collected.
    record = opened.content["arrays"]
    assert isinstance(record, ArrayRecord)
    return list(to_tensors(record).values())


@given(st.lists(st.lists(st.integers(0, 3).map(lambda size: size * 20_000), max_size=3), max_size=4), st.booleans())
def test_messages_come_out_as_they_went_in(sizes: list[list[int]], shared: bool) -> None:
    outbox, inbox = Outbox(), Inbox()
    messages = [message(*(torch.rand(size) for size in row), name=str(row)) for row in sizes]
    opened = list(sealed(outbox if shared else None, *messages).opened(inbox))
    assert [each.content for each in opened] == [each.content for each in messages]
    assert [each.metadata for each in opened] == [each.metadata for each in messages]
    assert all(tensor.data_ptr() % 64 == 0 for each in opened for tensor in found(each))
    outbox.close()
    inbox.close()


def test_what_is_sealed_does_not_change_with_its_tensors(outbox: Outbox, inbox: Inbox) -> None:
    small, large = torch.zeros(3), torch.zeros(LARGE)
    sealer = Sealer(outbox)
    for number in range(3):
        sealer.add(message(small.fill_(number), large.fill_(number)))
    opened = [[int(tensor[0]) for tensor in found(each)] for each in sealer.parcel().opened(inbox)]
    assert opened == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_what_is_opened_belongs_to_whoever_has_it(outbox: Outbox, inbox: Inbox, count: int) -> None:
    kept: list[Tensor] = []
    for number in range(5):
        parcel = sealed(outbox, *(message(torch.full((LARGE,), float(number))) for _ in range(count)))
        kept += [found(each)[0].add_(0.5) for each in parcel.opened(inbox)]
    assert [tensor.unique().tolist() for tensor in kept] == [
        [number + 0.5] for number in range(5) for _ in range(count)
    ]


def test_a_segment_is_written_again_when_nothing_in_it_is_looked_at_any_more(outbox: Outbox, inbox: Inbox) -> None:
    def travelled(number: int) -> tuple[Address | None, Tensor]:
        parcel = sealed(outbox, message(torch.full((LARGE,), float(number))))
        return parcel.address, *(found(each)[0] for each in parcel.opened(inbox))

    first, tensor = travelled(1)
    column = tensor.view(512, 512)[:, 3]
    del tensor
    second, other = travelled(2)
    assert second != first
    assert column.unique().tolist() == [1]
    del column
    third, _ = travelled(3)
    assert third == first
    assert other.unique().tolist() == [2]


def test_a_small_part_keeps_no_large_segment(outbox: Outbox, inbox: Inbox) -> None:
    parcel = sealed(outbox, message(torch.zeros(LARGE)), message(torch.ones(LARGE // 8)))
    small = [found(each)[0] for each in parcel.opened(inbox)][1]
    assert inbox.segment(parcel.address or Address(0, 0)).free
    assert small.unique().tolist() == [1]


def test_a_parcel_that_is_never_finished_keeps_no_segment(outbox: Outbox, inbox: Inbox) -> None:
    sealer = Sealer(outbox)
    sealer.add(message(torch.zeros(LARGE)))
    sealer.discard()
    assert outbox.segment().address == sealer.parcel().address
    opening = sealer.parcel().opened(inbox)
    next(opening)
    opening.close()
    gc.collect()
    assert outbox.segment().address == sealer.parcel().address


def test_a_tensor_that_is_kept_is_written_once_and_opened_for_each(outbox: Outbox, inbox: Inbox) -> None:
    model = torch.zeros(LARGE)
    parcel = sealed(outbox, *(message(model) for _ in range(10)), keeps=True)
    assert parcel.end == Segment.FIRST + model.nbytes
    for each in parcel.opened(inbox):
        (tensor,) = found(each)
        assert tensor.unique().tolist() == [0]
        tensor += 1


def test_large_arrays_of_flowers_own_travel_beside_the_call_too(outbox: Outbox, inbox: Inbox) -> None:
    sent = message()
    sent.content.array_records["arrays"]["stock"] = Array(torch.zeros(LARGE))
    parcel = sealed(outbox, sent)
    assert isinstance(parcel.letters[0][0], tuple)
    assert [each.content for each in parcel.opened(inbox)] == [sent.content]


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
