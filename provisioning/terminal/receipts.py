"""What a terminal asks of a receipt before it believes an answer.

Owns that judgement, not the mathematics: `ReceiptVerifier` is answered by the offline verifier (`ledger_receipts.py`).

Source: docs/formats/terminal-protocol.md section 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.model.errors import OutcomeUnknown, Rejected
from appliance.wire.requests import HeadBody, Seen


class NotBelieved(OutcomeUnknown):
    """The answer contradicts its proof or what was proven before: the till must neither believe nor deny it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReceipt:
    """What signatures and proofs have shown.

    Attributes:
        head: the signed head that the receipt hangs on.
        proof: the same with its signatures, for a box that says it never signed it.
        states: what the proven entries say, by the key of the request or payment that they are about.
    """

    head: Seen
    proof: HeadBody
    states: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What an answer says: a state, about any of these keys (a reversal's own key, or the key of what it reverses)."""

    keys: frozenset[str]
    state: str


class ReceiptVerifier(Protocol):
    """Checks receipts against the trust that came with pairing."""

    def verify(self, receipt: bytes) -> VerifiedReceipt:
        """Raises Rejected, saying what is wrong with the receipt."""
        ...


def check_receipt(
    verifier: ReceiptVerifier, receipt: bytes, *, claimed: Iterable[Claimed], seen: Seen | None
) -> VerifiedReceipt:
    """What `receipt` shows, once it proves every claimed state.

    Args:
        seen: the highest head known when the question was sent; later ones may have overtaken this answer.
    Raises:
        NotBelieved: `receipt_refused`, `receipt_of_another_sale`, `log_went_back`.
    """
    try:
        verified = verifier.verify(receipt)
    except Rejected as cause:
        raise NotBelieved("receipt_refused", f"the receipt does not verify: {cause}") from cause
    for claim in claimed:
        proven = frozenset[str]().union(*(verified.states.get(key, frozenset()) for key in claim.keys))
        if claim.state not in proven:
            raise NotBelieved(
                "receipt_of_another_sale",
                f"{', '.join(sorted(claim.keys))} is said to be {claim.state}, the receipt proves {sorted(proven)}",
            )
    head = verified.head
    if seen is not None and head.size < seen.size:
        raise NotBelieved("log_went_back", f"a log of {seen.size} entries was seen before, now it has {head.size}")
    if seen is not None and head.size == seen.size and head.root != seen.root:
        raise NotBelieved("log_went_back", f"two different logs of {seen.size} entries were seen")
    return verified
