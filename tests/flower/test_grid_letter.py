"""Messages made and taken apart in ways of our own are those that Flower makes."""

import pytest

pytest.importorskip("flwr")

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.app.message import make_message

from fedsplit.flower.grid.array import DirectArray, direct_record
from fedsplit.flower.grid.letter import sealed, unsealed
from fedsplit.flower.grid.release import identify, number, replied, told

UNLIKE = {"_created_at", "_ttl"}


def content() -> RecordDict:
    arrays = direct_record({"a": DirectArray.from_tensor(torch.rand(2, 3)), "b": DirectArray(np.arange(4)[::2])})
    mixed = direct_record({"ours": DirectArray(np.ones(())), "theirs": Array(np.arange(3))})
    settings = ConfigRecord({"number": 1, "words": ["a", "b"], "raw": b"xyz", "yes": True})
    records = {"arrays": arrays, "mixed": mixed, "settings": settings, "metrics": MetricRecord({"loss": 0.5})}
    return RecordDict({**records, "nothing": ArrayRecord(), "strange": direct_record({"big": strange()})})


def strange() -> DirectArray:
    return DirectArray(np.arange(3, dtype=">f4"))


def travelled(message: Message) -> Message:
    pickled, buffers = sealed(message)
    return unsealed(pickled, [bytes(buffer.raw()) for buffer in buffers])


def test_a_letter_holds_all_kinds_of_records() -> None:
    identify(3)
    message = told(content(), 7, "train.answer")
    number(message, "12")
    again = travelled(message)
    assert again.content == message.content
    assert again.metadata == message.metadata
    for name, record in message.content.items():
        assert type(again.content[name]) is type(record)
    array = again.content["strange"]["big"]
    assert isinstance(array, DirectArray)
    assert array.numpy().dtype == np.dtype(">f4")
    # As records that Flower made: what they check is still checked.
    with pytest.raises(TypeError):
        again.content["settings"]["number"] = object()
    again.content["more"] = ConfigRecord({"more": 1})


def test_a_letter_holds_an_error() -> None:
    identify(3)
    request = Message(RecordDict(), 2, "query")
    number(request, "1")
    again = travelled(Message(Error(5, "reason"), reply_to=request))
    assert (again.error.code, again.error.reason) == (5, "reason")
    assert not again.has_content()


def test_what_is_told_and_replied_is_what_flowers_constructor_makes() -> None:
    identify(3)
    records = content()
    ours, theirs = told(records, 7, "train.answer"), Message(records, 7, "train.answer")
    assert alike(ours, theirs)
    assert ours.metadata.ttl == theirs.metadata.ttl
    number(ours, "12")
    assert alike(replied(records, ours), Message(records, reply_to=ours))
    # The ends of a message that somebody else began.
    request = make_message(ours.metadata, RecordDict())
    request.metadata.__dict__["_dst_task_id"] = 9
    request.metadata.delivered_at = "when it was delivered"
    answer, expected = replied(records, request), Message(records, reply_to=request)
    assert alike(answer, expected)
    assert answer.metadata.ttl == pytest.approx(expected.metadata.ttl, abs=1)
    assert answer.metadata.created_at == pytest.approx(expected.metadata.created_at, abs=1)


def alike(one: Message, other: Message) -> bool:
    first, second = ({**message.metadata.__dict__} for message in (one, other))
    return list(first) == list(second) and all(first[name] == second[name] for name in first if name not in UNLIKE)
