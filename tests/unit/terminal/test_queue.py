"""Stored sales are sent once under their own keys, and a batch says the same on every try."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, new_request_key
from appliance.model.limits import BATCH_SALES_MAX
from appliance.wire.answers import BatchAnswer, BatchResult
from appliance.wire.requests import LineBody, PaymentBody, TenderBody
from provisioning.terminal.queue import SaleQueue, WaitingBatch


def _key(number: int) -> RequestKey:
    return new_request_key(1_790_000_000_000 + number, bytes(10))


def _sale(amount_minor: int = 250) -> PaymentBody:
    tender = TenderBody(kind="cash", amount_minor=amount_minor)
    return PaymentBody(currency="EUR", amount_minor=amount_minor, tenders=(tender,))


def _answer(batch: WaitingBatch, refused: int = 0) -> BatchAnswer:
    results = [
        BatchResult(key=item.key, state="refused", code="total_wrong", detail="no")
        if number < refused
        else BatchResult(key=item.key, state="approved", seq=number)
        for number, item in enumerate(batch.body.items)
    ]
    return BatchAnswer(key=str(batch.key), results=tuple(results), now_ms=0)


@pytest.fixture
def queue(tmp_path: Path) -> SaleQueue:
    return SaleQueue(path=tmp_path / "queue.sqlite")


def _next(queue: SaleQueue, number: int) -> WaitingBatch:
    batch = queue.next_batch(_key(number))
    assert batch is not None
    return batch


def test_empty_queue_has_no_batch(queue: SaleQueue) -> None:
    assert queue.next_batch(_key(1)) is None


def test_unanswered_batch_is_sent_again_as_it_was(queue: SaleQueue, tmp_path: Path) -> None:
    queue.store(_key(1), _sale())
    first = _next(queue, 100)
    queue.store(_key(2), _sale())
    after_restart = SaleQueue(path=tmp_path / "queue.sqlite")
    assert _next(after_restart, 101) == first
    after_restart.settle(_answer(first))
    assert [item.key for item in _next(after_restart, 102).body.items] == [str(_key(2))]


def test_settled_sales_are_never_sent_again_and_refusals_stay_readable(queue: SaleQueue) -> None:
    for number in range(3):
        queue.store(_key(number), _sale())
    queue.settle(_answer(_next(queue, 100), refused=1))
    assert queue.next_batch(_key(101)) is None
    assert queue.waiting_count() == 0
    (refused,) = queue.settled("refused")
    assert (refused.key, refused.code) == (_key(0), "total_wrong")
    assert len(queue.settled()) == 3


def test_storing_a_sale_twice_is_one_sale_and_another_sale_under_its_key_is_refused(queue: SaleQueue) -> None:
    queue.store(_key(1), _sale())
    queue.store(_key(1), _sale())
    assert queue.waiting_count() == 1
    with pytest.raises(Rejected, match="key_reused"):
        queue.store(_key(1), _sale(999))


def test_card_is_never_stored(queue: SaleQueue) -> None:
    card = PaymentBody(currency="EUR", amount_minor=5, tenders=(TenderBody(kind="card", amount_minor=5, source="r1"),))
    with pytest.raises(Rejected, match="only_cash_is_stored"):
        queue.store(_key(1), card)


def test_batch_stays_within_what_a_request_may_hold(queue: SaleQueue) -> None:
    lines = tuple(LineBody(sku="S" * 200, unit_price_minor=1) for _ in range(200))
    large = PaymentBody(currency="EUR", lines=lines, tenders=(TenderBody(kind="cash", amount_minor=200),))
    for number in range(60):
        queue.store(_key(number), large)
    batch = _next(queue, 100)
    assert 1 < len(batch.body.items) < 60
    assert len(batch.body.items) <= BATCH_SALES_MAX
    queue.settle(_answer(batch))
    assert queue.waiting_count() == 60 - len(batch.body.items)


def test_queue_file_is_private(queue: SaleQueue, tmp_path: Path) -> None:
    assert (tmp_path / "queue.sqlite").stat().st_mode & 0o777 == 0o600
