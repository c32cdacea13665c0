"""A second reader of transactions: takes apart what production code puts together, and shares no line with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from appliance.ports.chain import Coin, Outpoint, TransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTransaction:
    """A transaction with witness; `outputs` are (satoshi, script)."""

    raw: bytes
    stripped: bytes
    inputs: tuple[Outpoint, ...]
    outputs: tuple[tuple[int, bytes], ...]

    @property
    def transaction_id(self) -> TransactionId:
        return TransactionId(hashlib.sha256(hashlib.sha256(self.stripped).digest()).digest())

    @property
    def coins(self) -> dict[Outpoint, Coin]:
        points = [Outpoint(transaction_id=self.transaction_id, index=index) for index in range(len(self.outputs))]
        return {
            point: Coin(outpoint=point, value_sat=value_sat, script=script)
            for point, (value_sat, script) in zip(points, self.outputs, strict=True)
        }

    @property
    def digest(self) -> bytes | None:
        """What its OP_RETURN output carries."""
        return next((script[2:] for _, script in self.outputs if script[:1] == b"\x6a"), None)


def read_transaction(raw: bytes) -> RawTransaction:
    """Take `raw` apart; counts are below 253, as ours are."""
    assert raw[4:6] == b"\x00\x01", "a transaction with witness"
    at = 6
    inputs = []
    count, at = raw[at], at + 1
    for _ in range(count):
        inputs.append(
            Outpoint(
                transaction_id=TransactionId(raw[at : at + 32]), index=int.from_bytes(raw[at + 32 : at + 36], "little")
            )
        )
        at += 36 + 1 + raw[at + 36] + 4
    outputs = []
    count, at = raw[at], at + 1
    for _ in range(count):
        size = raw[at + 8]
        outputs.append((int.from_bytes(raw[at : at + 8], "little"), raw[at + 9 : at + 9 + size]))
        at += 9 + size
    stripped = raw[:4] + raw[6:at] + raw[-4:]
    return RawTransaction(raw=raw, stripped=stripped, inputs=tuple(inputs), outputs=tuple(outputs))
