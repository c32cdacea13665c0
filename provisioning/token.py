"""Make a token ready: initialise it, set both PINs, make the log's keys and seal the post-quantum seed.

Runs as a process of its own (`python -m provisioning.token`), since PKCS#11 has one state per process: the caller's
stays untouched. PINs come on stdin and go nowhere else, so they never stand in a process list. Must never initialise a
token that holds keys: that erases them.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.crypto import cose, hpke
from appliance.crypto.envelope import NOTE_PURPOSE, POST_QUANTUM_PURPOSE, header_for, open_envelope, seal
from drivers.hsm.cipher import RUNG_GCM, EcdhCipher, GcmCipher, choose_rung
from drivers.hsm.keys import Algorithm, KeyRef, generate_aes_key, generate_derive_key, generate_signing_key
from drivers.hsm.library import load
from drivers.hsm.signing import choose_classical, is_supported
from drivers.hsm.token import Pin, Session, Token

CLASSICAL_KEY_ID: Final = b"\x01"
WRAPPING_KEY_ID: Final = b"\x02"
BOX_KEY_PURPOSE: Final = b"tillstone/box-key/v1"
AUTHORITY_KEY_ID: Final = b"CA"  # beyond the ids that rotations count up to
TIMEOUT_S: Final = 60.0
_SEED_BYTES: Final = 32
_LABEL_BYTES: Final = 32
_PR_SET_PDEATHSIG: Final = 1
_CKU_SO: Final = 0
_CKF_RW_SERIAL_SESSION: Final = 0x6
_SLOTS_MAX: Final = 64
_TOKEN_INFO_BYTES: Final = 512  # CK_TOKEN_INFO has 208 on 64 bits (PKCS#11 v2.40 section 3.2), the label first
_COSE_ALGORITHMS: Final = {
    Algorithm.ED25519: cose.ED25519,
    Algorithm.P384: cose.ESP384,
    Algorithm.P256: cose.ESP256,
}


class TokenFailed(Exception):
    """The token could not be made ready; the message says what the library answered."""


class TokenPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to make, and with which PINs.

    Attributes:
        so_pin: for a new token, which is initialised; None for new log keys in the one that is there.
        classical_id: under which CKA_ID the log's classical key is made.
        wrapping_public, authority_public: of a token that is there, as its `TokenKeys` say.
        erases: only initialise again the token with this label, which erases it: nothing is made in it.
    """

    module_path: str
    label: str
    so_pin: str | None
    user_pin: str
    classical_id: bytes = CLASSICAL_KEY_ID
    wrapping_public: bytes | None = None
    erases: bool = False
    authority_public: bytes | None = None


class EnvelopedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key whose seed lies under the wrapping key."""

    public: bytes
    envelope: bytes


class TokenKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Public facts about the keys made.

    Attributes:
        classical_id: CKA_ID of the log's classical key; counts up with each rotation.
        classical_algorithm: COSE id of that key.
        wrapping_public: SubjectPublicKeyInfo, only of an ECDH wrapping key.
        envelope: the ML-DSA-87 seed under the wrapping key.
        authority_public: SubjectPublicKeyInfo of the key that signs the door's certificates; None in a token without
            ECDSA or of before there was one, whose door goes by files.
        note: the Ed25519 key of checkpoints, where the classical key is another; None also in a box of before there
            was one.
        box: the HPKE key to which the owner seals secrets for this box, its seed under the wrapping key; None in a
            token whose keys were rotated.
    """

    classical_algorithm: int
    classical_public: bytes
    classical_id: bytes = CLASSICAL_KEY_ID
    wrapping_public: bytes | None
    authority_public: bytes | None = None
    post_quantum_public: bytes
    envelope: bytes
    note: EnvelopedKey | None = None
    box: EnvelopedKey | None = None

    @property
    def note_public(self) -> bytes:
        """What genesis and rotations name as the key of checkpoints."""
        return self.classical_public if self.note is None else self.note.public


def make_token(plan: TokenPlan, *, environment: dict[str, str]) -> TokenKeys:
    """Make the log's keys, in the one free token of the library or beside older keys, in a process of its own.

    Raises:
        TokenFailed: with the last thing that process said.
    """
    return msgspec.json.decode(_in_own_process(plan, environment), type=TokenKeys)


def erase_token(plan: TokenPlan, *, environment: dict[str, str]) -> None:
    """Initialise the token with this label again, in a process of its own: whatever was in it is gone.

    Raises:
        TokenFailed: with the last thing that process said.
    """
    _in_own_process(msgspec.structs.replace(plan, erases=True), environment)


def _in_own_process(plan: TokenPlan, environment: dict[str, str]) -> bytes:
    made = subprocess.run(
        [sys.executable, "-m", "provisioning.token"],
        input=msgspec.json.encode(plan),
        capture_output=True,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
    )
    if made.returncode != 0:
        said = made.stderr.decode(errors="replace").strip().splitlines()
        raise TokenFailed(said[-1] if said else f"the token's process ended with {made.returncode}")
    return made.stdout


def _initialise(plan: TokenPlan, so_pin: bytes) -> None:
    """C_InitToken and C_InitPIN: the binding has neither, and softhsm2-util wants PINs as arguments."""
    library: Any = ctypes.CDLL(plan.module_path)
    _call(library, "C_Initialize", None)
    slots, count = (ctypes.c_ulong * _SLOTS_MAX)(), ctypes.c_ulong(_SLOTS_MAX)
    _call(library, "C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count))
    # A new SoftHSM store shows exactly one slot, whose token is not initialised.
    if count.value != 1:
        raise TokenFailed(f"expected one empty token in the store, saw {count.value} slots")
    slot, user_pin = ctypes.c_ulong(slots[0]), plan.user_pin.encode()
    label = plan.label.encode().ljust(_LABEL_BYTES)
    _call(library, "C_InitToken", slot, so_pin, ctypes.c_ulong(len(so_pin)), label)
    session = ctypes.c_ulong()
    _call(
        library,
        "C_OpenSession",
        slot,
        ctypes.c_ulong(_CKF_RW_SERIAL_SESSION),
        None,
        None,
        ctypes.byref(session),
    )
    _call(library, "C_Login", session, ctypes.c_ulong(_CKU_SO), so_pin, ctypes.c_ulong(len(so_pin)))
    _call(library, "C_InitPIN", session, user_pin, ctypes.c_ulong(len(user_pin)))
    _call(library, "C_Finalize", None)


def _erase(plan: TokenPlan, so_pin: bytes) -> None:
    """C_InitToken of the one token with our label; it ends every object and the user's PIN."""
    library: Any = ctypes.CDLL(plan.module_path)
    _call(library, "C_Initialize", None)
    slots, count = (ctypes.c_ulong * _SLOTS_MAX)(), ctypes.c_ulong(_SLOTS_MAX)
    _call(library, "C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count))
    label, info = plan.label.encode().ljust(_LABEL_BYTES), ctypes.create_string_buffer(_TOKEN_INFO_BYTES)
    found: list[ctypes.c_ulong] = []
    for slot in slots[: count.value]:
        _call(library, "C_GetTokenInfo", ctypes.c_ulong(slot), info)
        if info.raw[:_LABEL_BYTES] == label:
            found.append(ctypes.c_ulong(slot))
    if len(found) != 1:
        raise TokenFailed(f"expected one token labelled {plan.label}, saw {len(found)}")
    _call(library, "C_InitToken", found[0], so_pin, ctypes.c_ulong(len(so_pin)), label)
    _call(library, "C_Finalize", None)


def _call(library: Any, name: str, *arguments: object) -> None:
    answered = int(getattr(library, name)(*arguments))
    if answered != 0:
        raise TokenFailed(f"{name}: {answered:#x}")


def _make_keys(plan: TokenPlan) -> TokenKeys:
    token = Token.open(library=load(plan.module_path), label=plan.label, serial=None, pin=Pin(plan.user_pin))
    session = token.session(writable=True)
    algorithm = choose_classical(token.mechanisms)
    classical = generate_signing_key(session, algorithm, key_id=plan.classical_id, label="log, classical")
    wrapping = plan.wrapping_public if plan.so_pin is None else _make_wrapping_key(session, token.mechanisms)
    authority = plan.authority_public if plan.so_pin is None else _make_authority_key(session, token.mechanisms)
    post_quantum = _make_enveloped(session, wrapping, POST_QUANTUM_PURPOSE, cose.ML_DSA_87)
    signs_notes = algorithm is Algorithm.ED25519
    return TokenKeys(
        classical_id=plan.classical_id,
        classical_algorithm=_COSE_ALGORITHMS[algorithm],
        classical_public=classical,
        wrapping_public=wrapping,
        authority_public=authority,
        post_quantum_public=post_quantum.public,
        envelope=post_quantum.envelope,
        note=None if signs_notes else _make_enveloped(session, wrapping, NOTE_PURPOSE, cose.ED25519),
        box=None if plan.so_pin is None else _make_box_key(session, wrapping),
    )


def _make_box_key(session: Session, wrapping: bytes | None) -> EnvelopedKey:
    seed = _seed(session)
    wrapped = token_cipher(session, wrapping).wrap(seed, BOX_KEY_PURPOSE)
    return EnvelopedKey(public=hpke.public_key_of(seed), envelope=wrapped)


def _seed(session: Session) -> bytes:
    """Drawn by the kernel and the token both: one broken generator alone does not give the key away."""
    return hashlib.sha3_256(os.urandom(_SEED_BYTES) + session.random(_SEED_BYTES)).digest()


def _make_enveloped(session: Session, wrapping: bytes | None, purpose: str, algorithm: int) -> EnvelopedKey:
    seed = _seed(session)
    cipher = _Cipher(session, wrapping)
    envelope = asyncio.run(seal(cipher, seed, header_for(purpose, algorithm, seed)))
    opened = asyncio.run(open_envelope(cipher, envelope, purpose=purpose))
    return EnvelopedKey(public=opened.public_key, envelope=envelope)


def _make_authority_key(session: Session, mechanisms: frozenset[int]) -> bytes | None:
    if not is_supported(mechanisms, Algorithm.P384):
        return None
    return generate_signing_key(session, Algorithm.P384, key_id=AUTHORITY_KEY_ID, label="door's authority")


def _make_wrapping_key(session: Session, mechanisms: frozenset[int]) -> bytes | None:
    if choose_rung(mechanisms) == RUNG_GCM:
        generate_aes_key(session, key_id=WRAPPING_KEY_ID, label="wrapping")
        return None
    return generate_derive_key(session, key_id=WRAPPING_KEY_ID, label="wrapping")


def token_cipher(session: Session, public: bytes | None) -> GcmCipher | EcdhCipher:
    """The wrapping key of a made token; `public` as `TokenKeys.wrapping_public`."""
    if public is None:
        return GcmCipher(session, WRAPPING_KEY_ID)
    return EcdhCipher(session, KeyRef(key_id=WRAPPING_KEY_ID, public_sha256=hashlib.sha256(public).digest()))


class _Cipher:
    """`EnvelopeCipher` over the blocking driver; nothing else runs in this process."""

    def __init__(self, session: Session, public: bytes | None) -> None:
        self._cipher = token_cipher(session, public)

    async def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        return self._cipher.wrap(plaintext, aad)

    async def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        return self._cipher.unwrap(blob, aad)


def main() -> None:
    """Read a plan from stdin, write the keys to stdout."""
    # The lock that keeps a second installer away goes with whoever started us: so do we.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=TokenPlan)
    if plan.erases:
        _erase(plan, (plan.so_pin or "").encode())
        return
    if plan.so_pin is not None:
        _initialise(plan, plan.so_pin.encode())
    sys.stdout.buffer.write(msgspec.json.encode(_make_keys(plan)))


def softhsm_environment(folder: Path) -> dict[str, str]:
    """The environment in which SoftHSM finds the store that `write_softhsm_configuration` described in `folder`."""
    return {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")}


def write_softhsm_configuration(folder: Path, *, without: tuple[str, ...] = ()) -> None:
    """A configuration of its own, so that nothing under /etc or /var is read or written.

    Args:
        without: mechanisms that the token does not offer, such as `CKM_EDDSA`: small hardware has not all of them.
    """
    mechanisms = f"-{','.join(without)}" if without else "ALL"
    store = folder / "store"
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = folder / "softhsm2.conf"
    # 0077 in octal: the store's files are for their owner alone whatever the caller's umask is.
    configuration.write_text(
        f"directories.tokendir = {store}\nobjectstore.backend = file\nobjectstore.umask = 0077\nlog.level = ERROR\n"
        f"slots.removable = false\nslots.mechanisms = {mechanisms}\nlibrary.reset_on_fork = false\n"
    )
    configuration.chmod(0o600)


if __name__ == "__main__":
    main()
