"""A Bitcoin transaction that carries one digest: built, signed and measured here, with nothing but a chain to ask.

One coin goes in (two when the first is used up), its change comes back to the same address, and an output that nobody
can spend holds the digest. The next anchor spends that change, so anchors form one line, and of all versions of one
anchor (a fee bump is a new version on the same coin) a block can hold only one.

* The address pays to the script `<public key> CHECKSIG` under its SHA-256 (P2WSH), not to a RIPEMD-160: the library has
  none. A wallet knows it as the descriptor `wsh(pk(KEY))`.
* Signatures are deterministic (RFC 6979) and in the lower half, as nodes demand (BIP 146).
* The proof hashes the transaction without its witness: that is what the transaction id covers.

Source: BIP 141, 143, 173; Bitcoin Core, `policy/policy.h` (dust, standard OP_RETURN).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature

from appliance.evidence.block import Network, double_sha256
from appliance.evidence.ots import SHA256, Step, append, prepend
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure
from appliance.ports.chain import Coin, Outpoint, TransactionId

DUST_SAT: Final = 330  # an output worth less is not relayed
COINS_MAX: Final = 2
CHANGE_INDEX: Final = 0
PRIVATE_KEY_BYTES: Final = 32

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_VERSION: Final = (2).to_bytes(4, "little")
_LOCK_TIME: Final = bytes(4)
_SEQUENCE: Final = (0xFFFFFFFD).to_bytes(4, "little")  # says that a higher fee may replace it (BIP 125)
_SIGHASH_ALL: Final = 1
_SEGWIT: Final = b"\x00\x01"
_PUSH_32: Final = b"\x20"
_OP_RETURN: Final = b"\x6a"
_OP_CHECKSIG: Final = b"\xac"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class AnchorKey:
    """The key of the anchoring coins. It holds little money and no evidence: a thief gets the coin, not the log."""

    def __init__(self, private_key: bytes) -> None:
        """Raises Rejected: `anchor_key_malformed`: not 32 bytes, or no number of the curve."""
        number = int.from_bytes(private_key, "big")
        if len(private_key) != PRIVATE_KEY_BYTES or not 0 < number < _ORDER:
            raise Rejected("anchor_key_malformed", "expected 32 bytes, a number between 1 and the order of secp256k1")
        self._key = ec.derive_private_key(number, ec.SECP256K1())
        form = (serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        self.witness_script: Final = _pushed(self._key.public_key().public_bytes(*form)) + _OP_CHECKSIG
        self.script: Final = b"\x00" + _PUSH_32 + hashlib.sha256(self.witness_script).digest()

    @classmethod
    def read(cls, text: str) -> Self:
        """From a key file: 64 hexadecimal digits. Raises Rejected: as the constructor."""
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError as cause:
            raise Rejected("anchor_key_malformed", "expected 64 hexadecimal digits") from cause

    def address(self, network: Network) -> str:
        """Where to send coins for anchoring."""
        return _bech32(network.address_prefix, self.script[2:])

    def sign(self, digest: bytes) -> bytes:
        """DER, then one byte: all inputs and outputs are covered."""
        signature = self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True))
        r, s = decode_dss_signature(signature)
        return encode_dss_signature(r, min(s, _ORDER - s)) + bytes([_SIGHASH_ALL])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorTransaction:
    """A signed transaction.

    Attributes:
        raw: what a node is given.
        stripped: the same without witness; its double SHA-256 is the id.
        change: the coin that the next anchor spends.
    """

    raw: bytes
    stripped: bytes
    transaction_id: TransactionId
    change: Coin
    fee_sat: int


def anchor_transaction(digest: bytes, coins: Sequence[Coin], *, fee_sat: int, key: AnchorKey) -> AnchorTransaction:
    """The transaction that spends `coins`, all of `key`'s address, and carries `digest` (32 bytes).

    Raises:
        Rejected: `anchor_coin_too_small`: no change worth relaying would be left.
    """
    ensure(len(digest) == 32 and 0 < len(coins) <= COINS_MAX, "an anchor has a digest and one or two coins")
    ensure(all(coin.script == key.script for coin in coins), "the coins are ours to spend")
    change_sat = sum(coin.value_sat for coin in coins) - fee_sat
    if change_sat < DUST_SAT:
        detail = f"expected {fee_sat + DUST_SAT} sat or more for fee and change, saw {change_sat + fee_sat}"
        raise Rejected("anchor_coin_too_small", detail)
    outputs = _output(change_sat, key.script) + _output(0, _OP_RETURN + _pushed(digest))
    inputs = [_outpoint(coin.outpoint) for coin in coins]
    body = bytes([len(inputs)]) + b"".join(each + b"\x00" + _SEQUENCE for each in inputs) + b"\x02" + outputs
    stripped = _VERSION + body + _LOCK_TIME
    shared = double_sha256(b"".join(inputs)) + double_sha256(_SEQUENCE * len(inputs))
    witnesses = b""
    for coin, each in zip(coins, inputs, strict=True):
        # BIP 143: each signature covers the value of its coin, so a lying node cannot make us burn money as fee.
        own = each + _pushed(key.witness_script) + coin.value_sat.to_bytes(8, "little") + _SEQUENCE
        preimage = _VERSION + shared + own + double_sha256(outputs) + _LOCK_TIME + _SIGHASH_ALL.to_bytes(4, "little")
        witnesses += b"\x02" + _pushed(key.sign(double_sha256(preimage))) + _pushed(key.witness_script)
    transaction_id = TransactionId(double_sha256(stripped))
    return AnchorTransaction(
        raw=_VERSION + _SEGWIT + body + witnesses + _LOCK_TIME,
        stripped=stripped,
        transaction_id=transaction_id,
        change=Coin(
            outpoint=Outpoint(transaction_id=transaction_id, index=CHANGE_INDEX),
            value_sat=change_sat,
            script=key.script,
        ),
        fee_sat=fee_sat,
    )


def read_outpoint(text: str) -> Outpoint:
    """`TXID:INDEX` as people and wallets write it. Raises Rejected: `anchor_coin_malformed`."""
    found = re.fullmatch(r"([0-9a-f]{64}):([0-9]{1,5})", text)
    if found is None:
        raise Rejected("anchor_coin_malformed", "expected a transaction id of 64 hexadecimal digits, a colon, a number")
    return Outpoint(transaction_id=TransactionId(bytes.fromhex(found[1])[::-1]), index=int(found[2]))


def steps_to_id(stripped: bytes, digest: bytes) -> list[Step]:
    """From the digest inside a transaction, without its witness, to the transaction's id."""
    before, found, after = stripped.partition(digest)
    ensure(bool(found), "the transaction holds the digest")
    return [prepend(before), append(after), SHA256, SHA256]


def virtual_bytes(coin_count: int) -> int:
    """What a fee rate is multiplied with: the size of an anchor, its witness counted by a quarter (BIP 141).

    96 bytes of outputs and frame, 41 per input; each witness 110 bytes at most (a signature of 72), 2 for the marker.
    """
    return 96 + 41 * coin_count + -(-(2 + 110 * coin_count) // 4)


def _outpoint(outpoint: Outpoint) -> bytes:
    return outpoint.transaction_id + outpoint.index.to_bytes(4, "little")


def _output(value_sat: int, script: bytes) -> bytes:
    return value_sat.to_bytes(8, "little") + _pushed(script)


def _pushed(value: bytes) -> bytes:
    """Behind its length: as a script's push up to 75 bytes, and as a length anywhere else."""
    ensure(len(value) <= 75, "only short values are pushed")
    return bytes([len(value)]) + value


def _bech32(prefix: str, program: bytes) -> str:
    """Version 0 address (BIP 173)."""
    bits = int.from_bytes(program, "big") << (-len(program) * 8) % 5
    count = -(-len(program) * 8 // 5)
    payload = [0, *(bits >> 5 * at & 31 for at in reversed(range(count)))]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = _polymod([*expanded, *payload, 0, 0, 0, 0, 0, 0]) ^ 1
    payload += [check >> 5 * at & 31 for at in reversed(range(6))]
    return f"{prefix}1{''.join(_BECH32[value] for value in payload)}"


def _polymod(values: Sequence[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for at, generator in enumerate(_BECH32_GENERATOR):
            check ^= generator if top >> at & 1 else 0
    return check
