from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from fedsplit.federation.ledger import Ledger, Page, Recording
from fedsplit.federation.roles import FederationData
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.exchange import Exchange
from tests.federation.builders import batches, federation, plan_of, started, train

PROTOCOL = SplitFedV1(rounds=4, local_epochs=2, batch_size=5)


def rows_of(page: Page) -> list[int]:
    return sorted(row for exchange in page.exchanges for row in exchange.rows.tolist())


def test_only_watched_rows_of_recorded_rounds_and_first_epochs_are_kept(tmp_path: Path) -> None:
    ledger = train(
        tmp_path, plan_of(), federation(watched=4), PROTOCOL, Recording(training=(1, 3), inference=(3, 4))
    ).ledger
    assert [page.round for page in ledger.pages] == [1, 3, 4]
    watched = [client * 100 + place for client in range(3) for place in range(4)]
    assert [rows_of(page) for page in ledger.pages] == [watched, watched, []]
    assert all(len(exchange.rows) for page in ledger.pages for exchange in page.exchanges)


def test_the_ledger_does_not_grow_with_what_is_not_watched(tmp_path: Path) -> None:
    def kept(sizes: tuple[int, ...]) -> int:
        recording = Recording(training=(1,), inference=(1,))
        ledger = train(tmp_path / str(sizes), plan_of(), federation(sizes, watched=2), PROTOCOL, recording).ledger
        tensors = [
            getattr(exchange, field.name) for exchange in ledger.pages[0].exchanges for field in fields(exchange)
        ]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors if isinstance(tensor, torch.Tensor))

    assert kept((5, 5)) == kept((60, 40)) == 2 * 2 * (8 + 2 * 40 * 4 + 8)


def test_nothing_is_kept_where_nothing_is_recorded(tmp_path: Path) -> None:
    assert train(tmp_path, plan_of(), federation(), PROTOCOL).ledger.pages == ()
    assert not (tmp_path / "ledger").exists()


def test_an_exchange_has_no_room_for_an_image() -> None:
    assert {field.name for field in fields(Exchange)} == {
        "round", "client", "step", "rows", "smashed", "gradient", "labels", "head_gradient",
    }  # fmt: skip
    assert {field.name for field in fields(Page)} == {
        "round", "broadcast", "client", "server", "returned", "exchanges", "apart",
    }  # fmt: skip


def test_an_exchange_is_what_crossed_the_cut(tmp_path: Path) -> None:
    plan, data = plan_of(precision="float64"), federation()
    plan, start = started(plan, data.public)
    (page,) = train(tmp_path, plan, data, PROTOCOL, Recording(training=(1,))).ledger.pages
    checked = 0
    for exchange in (exchange for exchange in page.exchanges if exchange.step == 0):
        own = data.holdings[exchange.client]
        place = next(batches(plan, 5, len(own), (1, exchange.client, 0)))
        segments = plan.segments()
        plan.prepare(segments.client, page.broadcast, training=True)
        smashed = segments.client(own.pixels[place].double()).detach().requires_grad_()
        functional.cross_entropy(segments.server(smashed), own.labels[place]).backward()
        assert smashed.grad is not None
        kept = own.watched[place]
        assert torch.equal(exchange.rows, own.rows[place][kept])
        assert torch.equal(exchange.labels, own.labels[place][kept])
        torch.testing.assert_close(exchange.smashed, smashed.detach()[kept], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(exchange.gradient, smashed.grad[kept], rtol=1e-12, atol=1e-12)
        checked += len(exchange.rows)
    assert checked >= 3
    assert all(torch.equal(value, page.broadcast[name]) for name, value in start.client.items())


def test_a_page_holds_the_segments_of_its_round(tmp_path: Path) -> None:
    data = federation()
    trained = train(tmp_path, plan_of(), data, PROTOCOL, Recording(inference=(1, 2, 4)))
    first, second, last = trained.ledger.pages
    assert torch.equal(first.client["rows.0.weight"], second.broadcast["rows.0.weight"])
    assert torch.equal(last.client["rows.0.weight"], trained.standing.client["rows.0.weight"])
    assert torch.equal(last.server["logits.weight"], trained.standing.server["logits.weight"])
    assert [client for client, _ in first.returned] == [0, 1, 2]
    mean = (
        sum(len(own) * state["rows.0.bias"] for own, (_, state) in zip(data.holdings, first.returned, strict=True)) / 35
    )
    torch.testing.assert_close(first.client["rows.0.bias"], mean)


def test_pages_are_found_by_their_round(tmp_path: Path) -> None:
    ledger = train(tmp_path, plan_of(), federation(), PROTOCOL, Recording(inference=(1, 3))).ledger
    assert ledger.page(3).round == 3
    assert [page.round for page in ledger.until(1)] == [1]
    assert [page.round for page in ledger.until(3)] == [1, 3]
    assert list(Ledger(()).until(9)) == []


def test_a_recording_keeps_what_either_leak_needs() -> None:
    recording = Recording(training=(1, 3), inference=(5,))
    assert [number for number in range(7) if recording.keeps(number)] == [1, 3, 5]


@pytest.mark.parametrize("watched", [0, 1])
def test_no_exchange_is_kept_of_a_step_without_watched_rows(watched: int, tmp_path: Path) -> None:
    data: FederationData = federation((14,), watched=watched)
    (page,) = train(tmp_path, plan_of(), data, PROTOCOL, Recording(training=(1,))).ledger.pages
    assert len(page.exchanges) == watched
