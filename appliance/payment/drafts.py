"""Builds the entries of the payment domain: typed facts in, canonical bodies and disclosures out. Writes nothing.

Personal data and the signed request leave the facts here: the body keeps SHA-256(salt || value), the value becomes a
disclosure that can be erased. The hash of the payload, which a retry must repeat, is committed to under a salt that
goes with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.crypto.disclosure import SALT_SIZE, commit
from appliance.crypto.random import random_piece
from appliance.ledger.draft import Disclosure, Draft
from appliance.model.ids import RequestKey
from appliance.model.operation import FIRST_PROVIDER, Operation, OperationKind, OperationState
from appliance.model.payment import ClearedPayment, Identity, ValidPayment
from appliance.model.screening import Verdict
from appliance.payment.sale_facts import facts_of
from appliance.ports.provider import Confirmed, PartlyConfirmed
from appliance.wire import entries
from appliance.wire.requests import Wire

_BYTES_STAY: Final = (bytes,)


def sale_draft(cleared: ClearedPayment, now_ms: int) -> Draft:
    """A sale whose tenders hold by themselves."""
    valid = cleared.valid
    asked, disclosures = ask(valid.identity, valid.personal)
    body = entries.SaleEntry(
        asked=asked, retry=_retry_of(valid), sale=facts_of(valid.sale), screen=screen_facts(cleared.verdict)
    )
    return draft(entries.SALE, valid.identity.terminal, now_ms, body, disclosures)


def authorisation_draft(cleared: ClearedPayment, operation: Operation) -> Draft:
    """The intent of a card payment, with the whole sale."""
    valid = cleared.valid
    asked, disclosures = ask(valid.identity, valid.personal)
    body = entries.IntentEntry(
        operation=_operation_facts(operation),
        payment=operation.payment_key.octets,
        asked=asked,
        retry=_retry_of(valid),
        sale=facts_of(valid.sale),
        screen=screen_facts(cleared.verdict),
    )
    return draft(entries.INTENT, valid.identity.terminal, operation.prepared_ms, body, disclosures)


def follow_up_draft(
    operation: Operation,
    asked_by: Identity | None,
    *,
    refund: entries.RefundFacts | None = None,
    verdict: Verdict | None = None,
) -> Draft:
    """The intent of an operation on a standing payment; `asked_by` is absent when the box itself begins it or anew."""
    asked, disclosures = (None, ()) if asked_by is None else ask(asked_by, ())
    body = entries.IntentEntry(
        operation=_operation_facts(operation),
        payment=operation.payment_key.octets,
        asked=asked,
        sale=None,
        refund=refund,
        screen=None if verdict is None else screen_facts(verdict),
        request=_request_of(operation) if asked is None else None,
    )
    return draft(entries.INTENT, operation.terminal, operation.prepared_ms, body, disclosures)


def outcome_draft(
    operation: Operation,
    state: OperationState,
    intent_hash: bytes,
    now_ms: int,
    *,
    reference: str | None,
    code: str | None,
    capture_before_ms: int | None = None,
    took_minor: int | None = None,
    settled: str | None = None,
) -> Draft:
    """What became of an operation; `capture_before_ms` of one that had money held, `took_minor` where it took less,
    `settled` where it was another money."""
    is_captured = operation.kind is OperationKind.CAPTURE and state is OperationState.CONFIRMED
    body = entries.OutcomeEntry(
        operation=operation.operation_id,
        kind=operation.kind,
        payment=operation.payment_key.octets,
        state=state,
        amount=operation.money.amount_minor if is_captured else took_minor,
        intent=intent_hash,
        request=_request_of(operation),
        reference=reference,
        code=code,
        capture_before=capture_before_ms,
        settled=settled,
    )
    return draft(entries.OUTCOME, operation.terminal, now_ms, body, ())


def contradicted_draft(
    operation: Operation, state: OperationState, answer: Confirmed | PartlyConfirmed, now_ms: int
) -> Draft:
    """The provider has the money of `operation`, or some of it, which the log closed as `state`."""
    body = entries.ContradictedEntry(
        state=state,
        amount=answer.amount.amount_minor,
        payment=operation.payment_key.octets,
        settled=answer.settled if isinstance(answer, Confirmed) else None,
        currency=operation.money.currency,
        provider=operation.provider,
        operation=operation.operation_id,
        reference=answer.provider_reference,
    )
    return draft(entries.CONTRADICTED, operation.terminal, now_ms, body, ())


def unseen_draft(beside: Draft, payment: RequestKey, retry: RequestKey) -> Draft:
    """`payment` never came and must not come any more, because `retry` is made in its place; caused as `beside` is."""
    return _beside(beside, entries.TOMBSTONE, entries.TombstoneEntry(retry=retry.octets, payment=payment.octets))


def outlived_draft(beside: Draft, payment: RequestKey, retry: RequestKey) -> Draft:
    """`payment` must not stand, because `retry` does from `beside` on."""
    body = entries.ReversalWantedEntry(retry=retry.octets, payment=payment.octets)
    return _beside(beside, entries.REVERSAL_WANTED, body)


def given_up_drafts(
    identity: Identity, payment: RequestKey, parts: Iterable[RequestKey], reason: str, now_ms: int
) -> list[Draft]:
    """A sale paid in parts must not stand: its first part is `payment`; `parts` keep money, or still may."""
    asked, disclosures = ask(identity, ())
    body = entries.SaleGivenUpEntry(asked=asked, payment=payment.octets, reason=reason)
    given_up = draft(entries.SALE_GIVEN_UP, identity.terminal, now_ms, body, disclosures)
    wanted = [entries.ReversalWantedEntry(payment=part.octets, request=asked.key) for part in parts]
    return [given_up, *(_beside(given_up, entries.REVERSAL_WANTED, each) for each in wanted)]


def undone_draft(
    undone: OperationKind, terminal: str, body: entries.UndoEntry, asked_by: Identity | None, now_ms: int
) -> Draft:
    """Money was given back; `asked_by` is absent when its request is in the ledger already, as `body.request`."""
    asked, disclosures = (None, ()) if asked_by is None else ask(asked_by, ())
    kind = entries.REFUND if undone is OperationKind.REFUND else entries.REVERSAL
    return draft(kind, terminal, now_ms, msgspec.structs.replace(body, asked=asked), disclosures)


def refused_draft(identity: Identity, verb: str, amount_minor: int, verdict: Verdict, now_ms: int) -> Draft:
    """A sale or refund that screening refused: facts and verdict, nothing of the persons in it."""
    body = entries.ScreeningRefusedEntry(
        key=identity.key.octets, verb=verb, amount=amount_minor, screen=screen_facts(verdict)
    )
    return draft(entries.SCREENING_REFUSED, identity.terminal, now_ms, body, ())


def screen_facts(verdict: Verdict) -> entries.ScreenFacts:
    """A verdict as entries have it."""
    return entries.ScreenFacts(
        model=verdict.model_sha256,
        score=verdict.score_permille,
        reasons=tuple(
            entries.ReasonFacts(rule=reason.rule.value, seen=reason.seen, limit=reason.limit)
            for reason in verdict.reasons
        ),
        verdict=verdict.judgement.value,
    )


def persons(*, cashier: str | None, customer: str | None = None) -> tuple[tuple[str, str], ...]:
    """The persons whom a request names, by what they are to it: erasable values, for `ask`."""
    named = (("cashier", cashier), ("customer", customer))
    return tuple((name, value) for name, value in named if value is not None)


def ask(
    identity: Identity, personal: tuple[tuple[str, str], ...], *, also: tuple[Disclosure, ...] = ()
) -> tuple[entries.Asked, tuple[Disclosure, ...]]:
    """Commitments for the entry, and the disclosures that open them.

    The signed request repeats the personal values. Where it names two persons it is split in shares, one under each
    person's key, so that erasing either erases it. A request that names nobody lies under a key shared by its day.

    Args:
        also: what the box itself keeps out of the entry.
    """
    disclosures = (
        also
        + tuple(
            Disclosure(name=name, subject=f"{name}:{value}", salt=random_piece(), value=value.encode())
            for name, value in personal
        )
        + tuple(_request_shares(identity.signed, [f"{name}:{value}" for name, value in personal]))
    )
    commitments = {each.name: each.commitment for each in disclosures}
    commitments[entries.PAYLOAD] = payload_commitment(disclosures, identity.payload_hash)
    # In the order of CBOR keys, as every map of an entry.
    ordered = dict(sorted(commitments.items(), key=lambda each: (len(each[0]), each[0])))
    return entries.Asked(key=identity.key.octets, commitments=ordered), disclosures


def payload_commitment(disclosures: Iterable[Disclosure], payload_hash: bytes) -> bytes:
    """SHA-256(salt || payload hash): the salt is the exclusive or of the salts of all shares of the request.

    The payload names persons, and names can be guessed. Erasing anybody whom the request names erases one of these
    salts, and with it the only way to try a guess.
    """
    salt = bytes(SALT_SIZE)
    for each in disclosures:
        if each.name.startswith(entries.REQUEST):
            salt = _exclusive_or(salt, each.salt)
    return commit(salt, payload_hash)


def _request_shares(signed: bytes, subjects: list[str]) -> Iterator[Disclosure]:
    """`request`, and for each further person `request.N`: their exclusive or is the signed request."""
    for number, subject in enumerate(subjects[1:], start=1):
        pad = os.urandom(len(signed))
        signed = _exclusive_or(signed, pad)
        yield Disclosure(name=f"{entries.REQUEST}.{number}", subject=subject, salt=random_piece(), value=pad)
    first = subjects[0] if subjects else None
    yield Disclosure(name=entries.REQUEST, subject=first, salt=random_piece(), value=signed)


def _exclusive_or(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def draft(kind: str, terminal: str, now_ms: int, body: Wire, disclosures: tuple[Disclosure, ...]) -> Draft:
    """An entry to be, caused by `terminal`; the body is encoded here because the writer's thread is the bottleneck."""
    encoded = cbor.encode_ordered(msgspec.to_builtins(body, builtin_types=_BYTES_STAY))
    return Draft(
        kind=kind, actor=f"{entries.TERMINAL_ACTOR}{terminal}", time_ms=now_ms, body=encoded, disclosures=disclosures
    )


def _beside(beside: Draft, kind: str, body: Wire) -> Draft:
    return draft(kind, entries.terminal_of(beside.actor), beside.time_ms, body, ())


def _retry_of(valid: ValidPayment) -> tuple[bytes, ...]:
    return tuple(key.octets for key in valid.retry_of)


def _request_of(operation: Operation) -> bytes | None:
    return None if operation.request is None else operation.request.octets


def _operation_facts(operation: Operation) -> entries.OperationFacts:
    kind = OperationKind(operation.kind)
    return entries.OperationFacts(
        id=operation.operation_id,
        kind=kind.value,
        provider_key=operation.provider_key,
        amount=operation.money.amount_minor,
        currency=operation.money.currency,
        target=operation.target,
        source=operation.source,
        held=operation.held_minor,
        provider=None if operation.provider == FIRST_PROVIDER else operation.provider,
        offline=operation.may_accept_offline,
        offline_limit=None if operation.offline_exceeded is None else operation.offline_exceeded.limit.value,
        offline_left=0 if operation.offline_exceeded is None else operation.offline_exceeded.left_minor,
    )
