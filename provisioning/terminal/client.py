"""The terminal door as a till sees it: one coroutine per verb, and when to believe what comes back.

Owns following a payment to its end. Its rules:
- a key belongs to one sale for ever: the till makes it (`new_key`) and keeps it with the sale *before* `payment`, calls
  again with the same key after a power cut, or gives up with `reversal`;
- a lost or unfinished answer is "being checked", never failed: it ends as a value or as `OutcomeUnknown`;
- an answer counts only if it is about the key that was asked for and its receipt proves what it says (`receipts.py`).

Source: docs/formats/terminal-protocol.md sections 4 to 7.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

import msgspec

from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.voucher import voucher_of
from appliance.ports.clock import Clock
from appliance.runtime.deadline import Deadline
from appliance.wire import requests
from appliance.wire.answers import (
    AttestAnswer,
    BatchAnswer,
    DrawerAnswer,
    EscrowAnswer,
    Event,
    PaymentAnswer,
    Problem,
    ReportAnswer,
    TokenAnswer,
    VoucherAnswer,
)
from appliance.wire.attestation import Attestation
from appliance.wire.requests import Verb, Wire
from provisioning.terminal import key_file, till_claims, verdict
from provisioning.terminal.asking import ATTEMPT_MS_MAX, Asker, Said
from provisioning.terminal.attested import BoxProof
from provisioning.terminal.events import read_events
from provisioning.terminal.home import Profile, TerminalHome
from provisioning.terminal.ledger_receipts import LedgerReceipts
from provisioning.terminal.link import Link, read_reply
from provisioning.terminal.memory import TerminalMemory
from provisioning.terminal.receipts import Claimed, NotBelieved, ReceiptVerifier, check_receipt
from provisioning.terminal.signing import Encoding, read_answer, sign_jws
from provisioning.terminal.verdict import Verdict

POLL_MS: Final = 1_000
"""How often an unfinished payment is asked about when the event stream says nothing."""
SIGNATURE_POLL_MS: Final = 250


class TerminalClient:
    """One till at one box. Calls may run side by side; each carries its own deadline."""

    def __init__(
        self,
        *,
        profile: Profile,
        key: TerminalKey,
        link: Link,
        memory: TerminalMemory,
        verifier: ReceiptVerifier,
        clock: Clock,
        proof: BoxProof | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
        encoding: Encoding = Encoding.COSE,
    ) -> None:
        self.profile = profile
        self._key = key
        self._link = link
        self._memory = memory
        self._verifier = verifier
        self._proof = proof
        self._clock = clock
        self._asker = Asker(
            profile=profile, key=key, link=link, memory=memory, clock=clock, random=random, encoding=encoding
        )

    def new_key(self) -> RequestKey:
        """A key for one sale."""
        return self._asker.new_key()

    def deadline(self, duration_ms: int) -> Deadline:
        """A deadline on this client's clock."""
        return Deadline.after(self._clock, duration_ms)

    async def payment(self, body: requests.PaymentBody, *, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        """Sell. Returns the final answer and receipt, or what stood at the deadline: `being_checked` or `pending`.

        Raises:
            Rejected: the box refused this sale, or did not prove what it runs; no money moved under `key`.
            Unavailable: the box could not be asked by the deadline; this call moved no money.
            OutcomeUnknown: it may have happened: call again with the same key, ask `status`, or give up by `reversal`.
        """
        await self.require_attested(deadline)
        return await self._run("payment", key, body, key, deadline)

    async def require_attested(self, deadline: Deadline, *, age_max_ms: int | None = None) -> None:
        """Return when the box has proven what it runs as the home demands, or not longer ago than `age_max_ms`.

        Raises:
            Rejected: it is not believed. Unavailable: it did not answer.
        """
        if self._proof is not None:
            await self._proof.require(self.attest, deadline, age_max_ms=age_max_ms)

    async def attest(self, nonce: bytes, deadline: Deadline) -> Attestation:
        """What the box's TPM says for `nonce` (32 bytes), not judged yet. Raises Rejected, Unavailable."""
        key, body = self.new_key(), requests.AttestBody(nonce=nonce.hex())
        try:
            answer = (await self._asker.ask("attest", key, body, AttestAnswer, deadline)).answer
        except OutcomeUnknown as lost:
            raise Unavailable(lost.code, f"a question changes nothing: {lost.detail}") from lost
        if answer.key != str(key):
            raise Unavailable("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        return answer.attestation

    async def reversal(self, of: RequestKey, *, key: RequestKey, reason: str = "", deadline: Deadline) -> PaymentAnswer:
        """Undo `of`, whatever became of it; if the box never saw it, it never will. Raises like `payment`."""
        return await self._run("reversal", key, requests.ReversalBody(of=str(of), reason=reason), of, deadline)

    async def abort(self, of: RequestKey, *, key: RequestKey, deadline: Deadline) -> PaymentAnswer:
        """Stop `of` unless it was approved already. Raises like `payment`."""
        return await self._run("abort", key, requests.AbortBody(of=str(of)), of, deadline)

    async def refund(
        self,
        of: RequestKey,
        *,
        key: RequestKey,
        reason: str = "",
        amount_minor: int | None = None,
        lines: tuple[requests.RefundLine, ...] = (),
        deadline: Deadline,
    ) -> PaymentAnswer:
        """Give a payment back: an amount, or lines of the sale; without either, all that is left. Of a part, both.

        `given_minor` of the final answer is what this refund gave. Raises like `payment`.
        """
        body = requests.RefundBody(of=str(of), reason=reason, amount_minor=amount_minor, lines=lines)
        return await self._run("refund", key, body, of, deadline)

    async def capture(
        self,
        of: RequestKey,
        *,
        key: RequestKey,
        amount_minor: int | None = None,
        deadline: Deadline,
    ) -> PaymentAnswer:
        """Take money that the card's bank holds for `of`: all of it, or total and tip. Raises like `payment`."""
        body = requests.CaptureBody(of=str(of), amount_minor=amount_minor)
        return await self._run("capture", key, body, of, deadline)

    async def status(self, of: RequestKey, *, deadline: Deadline) -> PaymentAnswer:
        """What became of `of`.

        Raises:
            Rejected: `payment_unknown`: the box holds nothing under that key *now*; a request still on its way may yet
                arrive, so only a reversal makes it final.
        """
        return await self._status(of, of, deadline)

    async def batch(self, body: requests.BatchBody, *, key: RequestKey, deadline: Deadline) -> BatchAnswer:
        """Hand over stored sales. A refused sale is a result in the answer, not an error. Raises like `payment`."""
        said = await self._asker.ask("batch", key, body, BatchAnswer, deadline)
        answer = said.answer
        if answer.key != str(key) or [result.key for result in answer.results] != [item.key for item in body.items]:
            raise NotBelieved(
                "answer_of_another_request", "expected one result for each stored sale, in the order sent"
            )
        accepted = [result for result in answer.results if result.state != "refused"]
        if answer.receipt is None:
            # What was refused is not in the log: of it alone no receipt will ever come.
            return msgspec.structs.replace(answer, pending=bool(accepted))
        claimed = [Claimed(keys=frozenset({result.key}), state=result.state) for result in accepted]
        await self._prove(answer.receipt, claimed, said.seen)
        return answer

    async def drawer(self, body: requests.DrawerBody, *, key: RequestKey, deadline: Deadline) -> DrawerAnswer:
        """Say what was done to the drawer. Without a receipt it is `pending`: call again. Raises like `payment`."""
        said = await self._asker.ask("drawer", key, body, DrawerAnswer, deadline)
        answer = said.answer
        if (answer.key, answer.act, answer.amount_minor) != (str(key), body.act, body.amount_minor):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        if answer.receipt is None:
            return msgspec.structs.replace(answer, pending=True)
        state = till_claims.act_state(answer.act, answer.drawer, answer.amount_minor)
        await self._prove(answer.receipt, [Claimed(keys=frozenset({answer.key}), state=state)], said.seen)
        return answer

    async def voucher(self, body: requests.VoucherBody, *, key: RequestKey, deadline: Deadline) -> VoucherAnswer:
        """Issue, show or void one; what changes it is `pending` without a receipt. Raises like `payment`."""
        said = await self._asker.ask("voucher", key, body, VoucherAnswer, deadline)
        answer = said.answer
        known = answer.code if body.act == "issue" else body.code
        if (answer.key, answer.act) != (str(key), body.act) or answer.voucher != _voucher_text(known, answer.voucher):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        if body.act == "issue" and (answer.amount_minor, answer.expires_ms) != (body.amount_minor, body.expires_ms):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about another voucher")
        if body.act == "show":
            return answer
        if answer.receipt is None:
            return msgspec.structs.replace(answer, pending=True)
        state = till_claims.voucher_state(answer.act, answer.amount_minor, answer.voucher, answer.expires_ms)
        await self._prove(answer.receipt, [Claimed(keys=frozenset({answer.key}), state=state)], said.seen)
        return answer

    async def token(self, body: requests.TokenBody, *, key: RequestKey, deadline: Deadline) -> TokenAnswer:
        """Keep, show or forget one; what changes it is `pending` without a receipt. Raises like `payment`."""
        said = await self._asker.ask("token", key, body, TokenAnswer, deadline)
        answer = said.answer
        if (answer.key, answer.act) != (str(key), body.act) or answer.name != (body.name or answer.name):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        if body.act == "show":
            return answer
        if answer.receipt is None:
            return msgspec.structs.replace(answer, pending=True)
        claim = Claimed(keys=frozenset({answer.key}), state=till_claims.token_state(answer.act, answer.name))
        await self._prove(answer.receipt, [claim], said.seen)
        return answer

    async def escrow(self, size: int, *, deadline: Deadline) -> EscrowAnswer:
        """The box's newest sealed parcel, where the one of `size` is older (`escrow.py`). Raises like `payment`."""
        key = self.new_key()
        answer = (await self._asker.ask("escrow", key, requests.EscrowBody(size=size), EscrowAnswer, deadline)).answer
        if answer.key != str(key):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        return answer

    async def report(self, body: requests.ReportBody, *, key: RequestKey, deadline: Deadline) -> ReportAnswer:
        """X or Z. A Z counts once its receipt proves it; without one it is `pending`. Raises like `payment`."""
        said = await self._asker.ask("report", key, body, ReportAnswer, deadline)
        answer = said.answer
        if (answer.key, answer.kind, answer.period.scope) != (str(key), body.kind, body.scope):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        if body.kind == "x":
            return answer
        if answer.receipt is None:
            return msgspec.structs.replace(answer, pending=True)
        claim = Claimed(keys=frozenset({answer.key}), state=till_claims.period_state(answer.period))
        await self._prove(answer.receipt, [claim], said.seen)
        return answer

    async def events(self, *, after: int = -1) -> AsyncGenerator[Event, None]:
        """This terminal's events after `after`, for ever; a broken stream is taken up again where it ended.

        Raises:
            Rejected: the box will not let this terminal listen.
        """
        failures = 0
        while True:
            try:
                async with aclosing(self._one_stream(after)) as stream:
                    async for event in stream:
                        failures, after = 0, max(after, event.seq)
                        yield event
            except (Unavailable, OutcomeUnknown):
                failures += 1
            await self._clock.sleep(self._asker.pause_ms(failures))

    async def _one_stream(self, after: int) -> AsyncGenerator[Event, None]:
        claims = self._asker.claims("events", self.new_key(), requests.EventsBody(after=after))
        token = f"Tillstone {sign_jws(self._key, claims).decode()}"
        async with self._link.stream(f"/v1/events?after={after}", token, self.deadline(ATTEMPT_MS_MAX)) as response:
            if verdict.of(response.status, "") is Verdict.ANSWERED:
                async with aclosing(read_events(response)) as stream:
                    async for event in stream:
                        yield event
            async with self.deadline(ATTEMPT_MS_MAX).scope():
                reply = await read_reply(response)
        problem = read_answer(reply.content_type, reply.body, Problem)
        match verdict.of(reply.status, problem.code):
            case Verdict.LEARN_CLOCK:
                await self._asker.learn_clock(problem.now_ms)
                raise Unavailable(problem.code, problem.detail)
            case Verdict.SAME_KEY_LATER | Verdict.MAY_HAVE_HAPPENED | Verdict.ANSWERED:
                raise Unavailable(problem.code, problem.detail)
            case Verdict.REFUSED | Verdict.NOT_HEARD:
                raise Rejected(problem.code, problem.detail)

    async def _run(
        self, verb: Verb, key: RequestKey, body: Wire, about: RequestKey, deadline: Deadline
    ) -> PaymentAnswer:
        """Ask, then follow an unfinished answer until it is final and proven, or the deadline passes."""
        # A payment may be refunded several times: only what is proven about this very request is its result.
        proven = key if verb == "refund" else about
        answer = await self._believed(await self._asker.ask(verb, key, body, PaymentAnswer, deadline), key, proven)
        while _is_unfinished(answer) and not deadline.has_passed:
            await self._wait_for_news(answer, {str(key), str(about)}, deadline)
            try:
                answer = await self._status(key, proven, deadline)
            except NotBelieved:
                raise
            except (Unavailable, OutcomeUnknown):
                break  # the durable answer stands as it is; the till asks again later
            except Rejected as cause:
                if verb in ("reversal", "abort") and answer.state != "being_checked":
                    break  # there was nothing to undo, so nothing stands under this key: the till asks it again
                raise NotBelieved("payment_forgotten", f"the box accepted {key} and now denies it: {cause}") from cause
        return answer

    async def _status(self, of: RequestKey, about: RequestKey, deadline: Deadline) -> PaymentAnswer:
        body = requests.StatusBody(of=str(of))
        said = await self._asker.ask("status", self.new_key(), body, PaymentAnswer, deadline)
        return await self._believed(said, of, about)

    async def _wait_for_news(self, answer: PaymentAnswer, keys: set[str], deadline: Deadline) -> None:
        """Return when an event about the payment came, or when it is time to ask without one."""
        until = deadline.at_most(POLL_MS)
        if answer.state != "being_checked":  # only the signature is missing, and signatures make no events
            await self._clock.sleep(min(SIGNATURE_POLL_MS, until.remaining_ms))
            return
        try:
            async with until.scope(), aclosing(self.events(after=answer.seq)) as events:
                async for event in events:
                    if event.key in keys:
                        return
        except TimeoutError:
            return
        except Rejected:
            await self._clock.sleep(until.remaining_ms)

    async def _believed(self, said: Said[PaymentAnswer], key: RequestKey, about: RequestKey) -> PaymentAnswer:
        """The answer, if it is about `key` and its receipt (when it has one) proves it."""
        answer = said.answer
        if answer.key != str(key):
            raise NotBelieved("answer_of_another_request", f"asked about {key}, answered about {answer.key}")
        if answer.receipt is None:
            return msgspec.structs.replace(answer, pending=True)  # without proof it is not final, whatever it says
        claim = Claimed(keys=frozenset({str(key), str(about)}), state=answer.state)
        await self._prove(answer.receipt, [claim], said.seen)
        return answer

    async def _prove(self, receipt: bytes, claimed: list[Claimed], seen: requests.Seen | None) -> None:
        verified = check_receipt(self._verifier, receipt, claimed=claimed, seen=seen)
        await self._memory.learn_head(verified.head, verified.proof)


@asynccontextmanager
async def open_terminal(
    home: TerminalHome, *, clock: Clock, verifier: ReceiptVerifier | None = None, encoding: Encoding = Encoding.COSE
) -> AsyncIterator[TerminalClient]:
    """The client of a paired terminal, from its folder.

    Args:
        verifier: None means the one that trust.json in the folder calls for.
    Raises:
        Rejected: the folder is not whole.
    """
    profile, key, memory = await asyncio.to_thread(
        lambda: (home.profile(), key_file.load(home.key_file), home.memory())
    )
    if verifier is None:
        verifier = await asyncio.to_thread(lambda: LedgerReceipts.from_file(home.trust(), profile.audience))
    ca_file = None if profile.ca_file is None else str(home.folder / profile.ca_file)
    async with Link(url=profile.url, ca_file=ca_file, certificate_sha256=profile.certificate_sha256) as link:
        yield TerminalClient(
            profile=profile,
            key=key,
            link=link,
            memory=TerminalMemory(home=home, memory=memory),
            verifier=verifier,
            clock=clock,
            proof=BoxProof(home=home, clock=clock, random=secrets.token_bytes),
            encoding=encoding,
        )


def _is_unfinished(answer: PaymentAnswer) -> bool:
    return answer.state == "being_checked" or answer.pending


def _voucher_text(code: str | None, said: str) -> str:
    """The voucher that the code opens; what was said where there is no code."""
    return said if code is None else voucher_of(code).hex()
