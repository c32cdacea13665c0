"""Answers that no receipt will ever prove, because nothing of them stands in the log: a till must not wait for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from typing_extensions import override

from appliance.crypto import cbor
from appliance.crypto.signing_key import TerminalKey
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import BatchAnswer, BatchResult, PaymentAnswer, Problem
from appliance.wire.requests import BatchBody, BatchItem, PaymentBody, TenderBody, Wire
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.home import Memory, Profile, TerminalHome
from provisioning.terminal.link import Link, Reply
from provisioning.terminal.memory import TerminalMemory
from provisioning.terminal.receipts import VerifiedReceipt
from provisioning.terminal.signing import Encoding
from tests.fakes.clock import SkippingClock

SALE = PaymentBody(currency="EUR", tenders=(TenderBody(kind="cash", amount_minor=100),), amount_minor=100)


class ScriptedLink(Link):
    """Answers each path with what was laid down for it."""

    def __init__(self, answers: dict[str, tuple[int, Wire]]) -> None:
        self._answers = answers

    @override
    async def post(self, path: str, body: bytes, encoding: Encoding, deadline: Deadline) -> Reply:
        status, answer = self._answers[path]
        members: Any = msgspec.to_builtins(answer)
        return Reply(
            status=status, content_type="application/cbor", body=cbor.encode_ordered(members), retry_after_ms=None
        )


class NoReceipts:
    """Nothing is to be verified here."""

    def verify(self, receipt: bytes) -> VerifiedReceipt:
        raise AssertionError(receipt)


def client(folder: Path, **answers: tuple[int, Wire]) -> TerminalClient:
    home = TerminalHome(folder=folder)
    return TerminalClient(
        profile=Profile(url="https://box", terminal="till-1", audience="shop.example/SN-1/1", currency="EUR"),
        key=TerminalKey.generate(),
        link=ScriptedLink({f"/v1/{verb}": answer for verb, answer in answers.items()}),
        memory=TerminalMemory(home=home, memory=Memory()),
        verifier=NoReceipts(),
        clock=SkippingClock(),
    )


async def test_batch_of_which_all_was_refused_is_not_pending(tmp_path: Path) -> None:
    answer = BatchAnswer(key="", now_ms=0, results=())
    till = client(tmp_path)
    key, item = till.new_key(), BatchItem(key=str(till.new_key()), payment=SALE)
    refused = BatchResult(key=item.key, state="refused", code="payment_cancelled", detail="it was reversed")
    answer = msgspec.structs.replace(answer, key=str(key), results=(refused,))
    till = client(tmp_path, batch=(200, answer))
    heard = await till.batch(BatchBody(items=(item,)), key=key, deadline=till.deadline(5_000))
    assert heard.pending is False
    accepted = msgspec.structs.replace(answer, results=(BatchResult(key=item.key, state="approved", seq=7),))
    till = client(tmp_path, batch=(200, accepted))
    heard = await till.batch(BatchBody(items=(item,)), key=key, deadline=till.deadline(5_000))
    assert heard.pending is True


async def test_reversal_of_what_took_no_money_may_wait_for_its_signature(tmp_path: Path) -> None:
    """Such a reversal leaves no entry: while the box cannot sign, `status` of its key says that it is unknown."""
    till = client(tmp_path)
    key, payment = till.new_key(), till.new_key()
    answer = PaymentAnswer(
        key=str(key), verb="reversal", state="declined", seq=9, currency="EUR", total_minor=100, now_ms=0, pending=True
    )
    unknown = Problem(
        type="about:blank", title="Refused", status=404, code="payment_unknown", detail="unknown", now_ms=0
    )
    till = client(tmp_path, reversal=(200, answer), status=(404, unknown))
    heard = await till.reversal(payment, key=key, deadline=till.deadline(5_000))
    assert (heard.state, heard.pending) == ("declined", True)
