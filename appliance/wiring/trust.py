"""Phase one of building the process: TPM, PIN, token, keys. Nothing may be sold that could not be signed later."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.adapters.hsm_link import HsmAddress, HsmLink
from appliance.adapters.hsm_signer import EnvelopedSigner, HsmCipher, HsmSigner, PinnedHsmKey, PinnedKek
from appliance.adapters.tpm_sealer import TpmSealer
from appliance.config.load import read_secret
from appliance.config.schema import Settings, TokenKey
from appliance.crypto import cose
from appliance.crypto.envelope import NOTE_PURPOSE, POST_QUANTUM_PURPOSE, EnvelopeCipher, open_envelope
from appliance.crypto.hybrid import PinnedKey
from appliance.device.attest import AttestationKey
from appliance.ledger.genesis import GenesisStatement, SignedGenesis, read_body
from appliance.ledger.head import LogSigners
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.recover import write_durably
from appliance.ledger.subject_keys import STORE_KEY_FILE
from appliance.ledger.trust import Evidence, load_trust
from appliance.ledger.trust import Trust as KnownTrust
from appliance.model.errors import Corrupt, Unavailable
from appliance.ports.clock import Clock
from appliance.ports.signer import Signer
from appliance.wiring.rotations import with_rotations
from drivers.hsm.cipher import RUNG_ECDH, RUNG_GCM
from drivers.hsm.token import Pin
from drivers.tpm.bundle import decode_bundle

TPM_DEADLINE_MS: Final = 10_000
STORE_KEY_PURPOSE: Final = b"tillstone/disclosure-store/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Phase one: what the box proves itself with.

    Attributes:
        cipher: the HSM's key-encryption key.
        attestation: the key with which the TPM speaks for the box.
        note: signs checkpoints; None where the log's keys are of before a token without Ed25519 had such a key.
    """

    sealer: TpmSealer | None
    link: HsmLink
    cipher: EnvelopeCipher
    signers: LogSigners
    note: Signer | None
    store_key: bytes
    genesis: SignedGenesis
    statement: GenesisStatement
    post_quantum_home: str
    said: Evidence = field(default_factory=Evidence)
    attestation: AttestationKey | None = None

    async def probe_hsm(self) -> bool:
        """Whether the HSM answers, by asking it."""
        return (await self.link.probe()).kind == "ok"

    async def probe_tpm(self) -> bool:
        """Whether the TPM answers, by asking it."""
        if self.sealer is None:
            return False
        try:
            await self.sealer.epoch()
        except (Unavailable, Corrupt):
            return False
        return True


@asynccontextmanager
async def open_trust(settings: Settings, clock: Clock) -> AsyncIterator[Trust]:
    """TPM, PIN, token and keys, each proven to be the one that the genesis names, or the trust file's newest rotation.

    Raises:
        Unavailable: a device is away; the service manager starts us again.
        Corrupt: a device or key is not the provisioned one.
    """
    async with AsyncExitStack() as stack:
        sealer, link = await _reach(settings, clock, stack)
        cipher = _cipher(settings, link)
        genesis = read_body(settings.storage.genesis_path.read_bytes())
        statement = genesis.read()
        said = await asyncio.to_thread(_said, settings, genesis)
        period = said.keys.get(genesis.log_id, LogKeys.of(genesis.log_id, statement)).newest
        classical = await _token_signer(settings, link, period.keys.classical, settings.hsm.classical)
        post_quantum, home = await _post_quantum(settings, link, cipher, period.keys.post_quantum)
        note = await _note(settings, cipher, period.note_key, classical)
        for signer in (post_quantum, note):
            if isinstance(signer, EnvelopedSigner):
                stack.push_async_callback(signer.close)
        yield Trust(
            sealer=sealer,
            link=link,
            cipher=cipher,
            signers=LogSigners(classical=classical, post_quantum=post_quantum),
            note=note,
            store_key=await _store_key(settings.storage.path, cipher),
            genesis=genesis,
            statement=statement,
            said=said.evidence,
            post_quantum_home=home,
            attestation=_attestation_key(settings),
        )


def _attestation_key(settings: Settings) -> AttestationKey | None:
    tpm = settings.tpm
    if tpm is None:
        return None
    bundle, path = decode_bundle(tpm.bundle_path.read_bytes()), tpm.certificate_path
    return AttestationKey(
        public=bundle.ak_public,
        endorsement_certificate=bundle.ek_certificate,
        certificate=path.read_bytes() if path is not None and path.exists() else None,
    )


def open_sealer(settings: Settings) -> TpmSealer | None:
    """The TPM, where one is set up; it is not asked yet."""
    if settings.tpm is None:
        return None
    bundle = decode_bundle(settings.tpm.bundle_path.read_bytes())
    return TpmSealer(tcti=settings.tpm.tcti, bundle=bundle, deadline_ms=TPM_DEADLINE_MS)


async def open_link(settings: Settings, sealer: TpmSealer | None, clock: Clock) -> HsmLink:
    """The token with its PIN; it is not asked yet. Raises Unavailable or Corrupt when the PIN cannot be had."""
    pin = await _pin(settings, sealer)
    return HsmLink(address=_address(settings), pin=pin, clock=clock, random=random.SystemRandom().random)


@asynccontextmanager
async def open_cipher(settings: Settings, clock: Clock) -> AsyncIterator[HsmCipher]:
    """The HSM's key-encryption key alone, before there is a log: what a restored box wraps its secrets under."""
    async with AsyncExitStack() as stack:
        _, link = await _reach(settings, clock, stack)
        yield _cipher(settings, link)


async def _reach(settings: Settings, clock: Clock, stack: AsyncExitStack) -> tuple[TpmSealer | None, HsmLink]:
    """TPM, if the settings have one, and token; both are let go with `stack`."""
    sealer = open_sealer(settings)
    if sealer is not None:
        stack.push_async_callback(sealer.close)
    link = await open_link(settings, sealer, clock)
    stack.push_async_callback(link.close)
    return sealer, link


def _cipher(settings: Settings, link: HsmLink) -> HsmCipher:
    return HsmCipher(link=link, kek=_kek(settings), deadline_ms=settings.hsm.deadline_ms)


def _said(settings: Settings, genesis: SignedGenesis) -> KnownTrust:
    """The trust file; where it lacks the rotation to the keys of the settings, it is made whole from the log."""
    file = settings.storage.trust_path
    known = load_trust(file.read_bytes())
    if _is_newest(settings, genesis, known):
        return known
    learnt = with_rotations(known, genesis, settings.storage.path)
    if learnt.evidence != known.evidence and _is_newest(settings, genesis, learnt):
        write_durably(file, learnt.encode())
    return learnt


def _is_newest(settings: Settings, genesis: SignedGenesis, known: KnownTrust) -> bool:
    keys = known.keys.get(genesis.log_id, LogKeys.of(genesis.log_id, genesis.read()))
    return hashlib.sha256(keys.newest.keys.classical.public_key).hexdigest() == settings.hsm.classical.public_key_sha256


def _address(settings: Settings) -> HsmAddress:
    serial = settings.hsm.token_serial
    return HsmAddress(
        library_path=str(settings.hsm.module_path),
        token_label=settings.hsm.token_label,
        token_serial=None if serial is None else serial.encode(),
    )


async def _pin(settings: Settings, sealer: TpmSealer | None) -> Pin:
    if sealer is not None:
        return Pin((await sealer.unseal()).decode())
    if settings.hsm.pin_path is None:
        raise Corrupt("pin_missing", "expected a [tpm] that seals the PIN, or hsm.pin_path; saw neither")
    return Pin(read_secret(settings.hsm.pin_path).reveal_text())


def _kek(settings: Settings) -> PinnedKek:
    kek = settings.hsm.kek
    hash_hex = kek.public_key_sha256
    return PinnedKek(
        token_key_id=bytes.fromhex(kek.id),
        rung=RUNG_GCM if hash_hex is None else RUNG_ECDH,
        public_sha256=None if hash_hex is None else bytes.fromhex(hash_hex),
    )


async def _token_signer(settings: Settings, link: HsmLink, pinned: PinnedKey, wanted: TokenKey) -> HsmSigner:
    """The signer of a log key, proven before a log is begun that nobody could sign."""
    seen = hashlib.sha256(pinned.public_key).hexdigest()
    if seen != wanted.public_key_sha256:
        raise Corrupt(
            "log_keys_mismatch", f"expected {wanted.public_key_sha256} of the settings, the log's newest key is {seen}"
        )
    key = PinnedHsmKey(token_key_id=bytes.fromhex(wanted.id), algorithm=pinned.algorithm, public_key=pinned.public_key)
    signer = HsmSigner(link=link, key=key, deadline_ms=settings.hsm.deadline_ms)
    await signer.prove()
    return signer


async def _post_quantum(settings: Settings, link: HsmLink, cipher: HsmCipher, pinned: PinnedKey) -> tuple[Signer, str]:
    home = settings.post_quantum
    if home.token is not None:
        return await _token_signer(settings, link, pinned, home.token), "token"
    if home.envelope_path is None:
        raise Corrupt("post_quantum_key_missing", "expected post_quantum.envelope_path or post_quantum.token")
    key = await open_envelope(cipher, home.envelope_path.read_bytes(), purpose=POST_QUANTUM_PURPOSE)
    if key.public_key != pinned.public_key:
        raise Corrupt("post_quantum_key_foreign", "the envelope's key is not the one that the log's genesis names")
    return EnvelopedSigner(key=key, deadline_ms=settings.hsm.deadline_ms), "envelope"


async def _note(settings: Settings, cipher: HsmCipher, note_key: bytes, classical: Signer) -> Signer | None:
    """The signer of checkpoints: the classical key where that is Ed25519, else the key in the note's envelope."""
    if note_key == classical.public_key:
        return classical if classical.algorithm == cose.ED25519 else None
    if settings.note is None:
        raise Corrupt("note_key_missing", "expected note.envelope_path: this log's checkpoints have a key of their own")
    key = await open_envelope(cipher, settings.note.envelope_path.read_bytes(), purpose=NOTE_PURPOSE)
    if key.algorithm != cose.ED25519 or key.public_key != note_key:
        raise Corrupt("note_key_foreign", "the envelope's key is not the one that signs this log's checkpoints")
    return EnvelopedSigner(key=key, deadline_ms=settings.hsm.deadline_ms)


async def _store_key(folder: Path, cipher: HsmCipher) -> bytes:
    """The key over all subject keys: random, wrapped by the token, made at the first start."""
    file = folder / STORE_KEY_FILE
    wrapped = await asyncio.to_thread(_read_if_there, file)
    if wrapped is None:
        wrapped = await cipher.wrap(os.urandom(32), STORE_KEY_PURPOSE)
        # Before its first use: values sealed under a lost key are lost.
        await asyncio.to_thread(write_durably, file, wrapped)
    return await cipher.unwrap(wrapped, STORE_KEY_PURPOSE)


def _read_if_there(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None
