"""When keys end, on the box's side: new keys for the same log, or a new log in place of a lost one.

Owns the files of a box while that happens. Must never hold the owner's key: a request goes out, what he signed comes
in. Every function may be run again after a crash at any line; the log itself says what has happened already.

    a new box        request_first     -> `tillstone owner genesis` -> install_first
    planned          request_rotation -> `tillstone owner rotate`  -> rotate
    lost, restored   request_successor -> `tillstone owner succeed` -> install_successor, carry_over

Source: docs/succession.md, docs/formats/succession.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from appliance.adapters.tpm_sealer import TpmSealer
from appliance.config.load import load
from appliance.config.schema import Note, Settings, TokenKey
from appliance.crypto import cbor
from appliance.crypto.owner import SignedStatement
from appliance.device.epochs import epoch_draft
from appliance.identity.terminals import TerminalProjection
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.genesis import GenesisStatement, PreviousHead, read_body
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.ledger.projection import create_tables
from appliance.ledger.pruned import PrunedEntry
from appliance.ledger.rebuild import recorded_entry
from appliance.ledger.succession import ROTATION, Rotation, RotationStatement, rotation_to_be_signed
from appliance.ledger.trust import Evidence, load_trust
from appliance.ledger.trust import Trust as KnownTrust
from appliance.ledger.verify import verify_log
from appliance.payment.vault.rows import TokenProjection
from appliance.ports.clock import Clock
from appliance.wire import entries
from appliance.wiring.trust import TPM_DEADLINE_MS, Trust, open_trust
from drivers.tpm.bundle import decode_bundle
from provisioning.box import (
    HSM_LABEL,
    NOTE_ENVELOPE,
    Box,
    ShopFacts,
    genesis_statement,
    keep_box,
    log_keys,
    make_devices,
    public_key_sha256,
    write_envelopes,
)
from provisioning.carry import take_over_secrets, take_over_tokens
from provisioning.commands.outcome import CannotDo
from provisioning.terminal.durable import write_durably
from provisioning.token import TokenKeys, TokenPlan, make_token
from provisioning.verify.ledger_folder import open_folder

REQUEST: Final = "owner.request"
_NEXT_KEYS: Final = "next-keys.json"
_GENESIS: Final = "genesis.cbor"


async def request_rotation(box: Box, settings: Settings) -> bytes:
    """Make the log's next keys in the token that is there; returns what the owner is asked to sign.

    Args:
        settings: `settings_of` the box, as in every function here.
    Raises:
        Unavailable, Corrupt: the TPM does not give the PIN. TokenFailed: the token makes no keys.
    """
    file = box.folder / _NEXT_KEYS
    if not file.exists():
        plan = TokenPlan(
            module_path=str(box.module),
            label=HSM_LABEL,
            so_pin=None,
            user_pin=await _pin(settings),
            classical_id=_next_id(box.keys.classical_id),
            wrapping_public=box.keys.wrapping_public,
            authority_public=box.keys.authority_public,
        )
        write_durably(file, msgspec.json.encode(make_token(plan, environment=box.environment)))
    keys = _next_keys(box)
    with open_folder(box.data) as folder:
        known = folder.log_keys()
    statement = RotationStatement(
        log_id=known.log_id, number=len(known.periods), keys=log_keys(keys), note_key=keys.note_public
    ).encode()
    write_durably(box.folder / REQUEST, statement)
    return statement


async def rotate(box: Box, settings: Settings, signed: SignedStatement, clock: Clock) -> Box:
    """Let the log go on under the keys that the owner named; the box must be stopped.

    Raises:
        CannotDo: the owner signed other keys than the ones that were made here.
        Rejected: the codes of `Rotation.extend`: the trust file's owner did not sign this.
        Unavailable: `ledger_locked`: the box is running.
    """
    keys = _next_keys(box)
    trust = load_trust(box.trust.read_bytes())
    with open_folder(box.data) as folder:
        rotations = folder.rotations()
    if not rotations or rotations[-1].period().keys != log_keys(keys):
        async with _opened(settings, clock) as (parts, ledger):
            rotation = await _signed_by_old_keys(parts, signed, ledger.head.size)
            period = rotation.extend(trust.keys[ledger.log_id], trust.owner).newest
            if (period.keys, period.note_key) != (log_keys(keys), keys.note_public):
                raise CannotDo("the owner signed other keys than this box has made", "sign the newest request")
            draft = Draft(kind=ROTATION, actor="box", time_ms=clock.now_ms(), body=rotation.encode_body())
            await ledger.append([draft], purpose=Purpose.OUTCOME)
            rotations.append(rotation)
    # From here on the log says that the keys are the new ones; the files follow, the newest fact last.
    write_envelopes(box.folder, keys)
    learnt = trust.learn(Evidence(rotations=tuple(rotations)))
    write_durably(box.trust, learnt.encode())
    rotated = replace(box, keys=keys)
    keep_box(rotated)
    (box.folder / _NEXT_KEYS).unlink()
    return rotated


def rotated_at(box: Box, signed: SignedStatement) -> int | None:
    """The entry with this rotation, when the box's files have followed it too and nothing is left to do."""
    with open_folder(box.data) as folder:
        found = [rotation for rotation in folder.rotations() if rotation.by_owner.statement == signed.statement]
    file = box.folder / _NEXT_KEYS
    is_left = file.exists() and found and log_keys(_next_keys(box)) == found[0].period().keys
    return None if not found or is_left else found[0].size


def request_first(folder: Path, shop: ShopFacts) -> bytes:
    """Make the devices of a new box; what the owner is asked to sign for its first log.

    Raises:
        CannotDo: the box has a log.
        BoxFailed, SwtpmError, TokenFailed: as in `make_box`.
    """
    if (folder / _GENESIS).exists():
        raise CannotDo(
            f"the box in {folder} has a log already", "name another folder, or: tillstone succession new-log"
        )
    statement = genesis_statement(make_devices(folder, shop=shop)).encode()
    write_durably(folder / REQUEST, statement)
    return statement


def install_first(box: Box, genesis: bytes, trust_file: bytes) -> Box:
    """Make a new box ready to begin the log that the owner signed.

    Raises:
        CannotDo: what was signed is not this box's request, or the box has another log.
        Rejected: the codes of `load_trust`.
    """
    trust = load_trust(trust_file)
    statement = trust.logs.get(read_body(genesis).log_id)
    if statement is None:
        raise CannotDo("the trust file does not name this log", "take both signed files")
    _require_asked(statement, box, box)
    file = box.folder / _GENESIS
    if file.exists() and file.read_bytes() != genesis:
        raise CannotDo(f"the box in {box.folder} has a log already", "tillstone succession new-log asks for the next")
    if not box.trust.exists():
        write_durably(box.trust, trust.encode())
    write_durably(file, genesis)
    box.data.mkdir(mode=0o700, exist_ok=True)
    return box


def request_successor(box: Box) -> bytes:
    """What the owner is asked to sign for a new log of this box, under the keys that its token has now."""
    statement = genesis_statement(_succeeding(box)).encode()
    write_durably(box.folder / REQUEST, statement)
    return statement


def install_successor(box: Box, genesis: bytes, trust_file: bytes) -> Box:
    """Put the old log aside as `data-<generation>` and make the box ready to begin the one that the owner signed.

    Raises:
        CannotDo: what was signed is not this box's request, or the trust file pins another owner.
        Rejected: the codes of `load_trust`.
    """
    if has_begun(box, genesis):
        return box
    known = load_trust(box.trust.read_bytes())
    trust = load_trust(trust_file)
    signed = read_body(genesis)
    statement = trust.logs.get(signed.log_id)
    successor = _succeeding(box)
    if statement is None or trust.owner != known.owner:
        raise CannotDo("the trust file is not of this owner, or does not name the new log", "take both signed files")
    _require_asked(statement, successor, box)
    if statement.previous is None or statement.previous.log_id not in known.logs:
        raise CannotDo("the new log names no log of this box before it", "sign with tillstone owner succeed")
    # New genesis beside the old log is refused at a start; the old genesis beside an empty folder would fork the log.
    learnt = known.learn(trust.evidence)
    write_durably(box.trust, learnt.encode())
    write_durably(box.folder / _GENESIS, genesis)
    old = _data_of(box, box.shop.generation)
    if not old.exists():
        box.data.rename(old)
    box.data.mkdir(mode=0o700, exist_ok=True)
    keep_box(successor)
    return successor


def has_begun(box: Box, genesis: bytes) -> bool:
    """Whether this genesis is the box's own already."""
    is_there = (box.folder / _GENESIS).read_bytes() == genesis
    return is_there and read_body(genesis).read().origin == box.shop.origin


def _require_asked(statement: GenesisStatement, wanted: Box, box: Box) -> None:
    asked = (wanted.shop.origin, log_keys(box.keys), box.keys.note_public)
    if (statement.origin, statement.keys, statement.note_key) != asked:
        raise CannotDo(f"the owner signed {statement.origin}, not what this box asked for", "sign the newest request")


async def carry_over(box: Box, settings: Settings, clock: Clock) -> tuple[str, ...]:
    """Begin the new log and pair in it, by their keys, the terminals that the old one knew; returns their names.

    Keys of persons and the vault of tokens come along where this box's token opens them (`carry.py`).

    Raises:
        CannotDo: the old data is not what its last cosigned head says.
        BadEntry: the old data is damaged: terminals pair anew then, when nothing better is left.
    """
    trust = load_trust(box.trust.read_bytes())
    old_data = _data_of(box, box.shop.generation - 1)
    take_over_secrets(old_data, box.data)
    async with _opened(settings, clock) as (parts, ledger):
        old = _terminals_in(old_data, trust, parts.statement.previous)
        known = await ledger.read(_terminal_keys)
        drafts = [
            Draft(
                kind=entries.TERMINAL_PAIRED,
                actor="box",
                time_ms=clock.now_ms(),
                body=cbor.encode({"public_key": public_key, "terminal": name}),
            )
            for public_key, name in old.items()
            if public_key not in known
        ]
        if drafts:
            await ledger.append(drafts, purpose=Purpose.OUTCOME)
        await take_over_tokens(old_data, ledger, box.data, clock)
    return tuple(old.values())


def settings_of(box: Box, tcti: str | None) -> Settings:
    """The box's settings with the keys that it has now; its file may still name those before.

    Args:
        tcti: where the TPM is now; None when it is where the file says.
    """
    settings = load(box.settings)
    classical = TokenKey(id=box.keys.classical_id.hex(), public_key_sha256=public_key_sha256(box.keys.classical_public))
    wrapping = box.keys.wrapping_public
    kek = msgspec.structs.replace(
        settings.hsm.kek, public_key_sha256=None if wrapping is None else public_key_sha256(wrapping)
    )
    hsm = msgspec.structs.replace(settings.hsm, classical=classical, kek=kek)
    tpm = settings.tpm if settings.tpm is None or tcti is None else msgspec.structs.replace(settings.tpm, tcti=tcti)
    note = None if box.keys.note is None else Note(envelope_path=box.folder / NOTE_ENVELOPE)
    return msgspec.structs.replace(settings, hsm=hsm, note=note, tpm=tpm)


async def _pin(settings: Settings) -> str:
    if settings.tpm is None:
        raise CannotDo("the settings name no TPM, so nothing gives the PIN", "name the TPM that seals it")
    bundle = decode_bundle(settings.tpm.bundle_path.read_bytes())
    sealer = TpmSealer(tcti=settings.tpm.tcti, bundle=bundle, deadline_ms=TPM_DEADLINE_MS)
    try:
        return (await sealer.unseal()).decode()
    finally:
        await sealer.close()


@asynccontextmanager
async def _opened(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Trust, Ledger]]:
    """The box's devices and its log without the box, begun when it is empty."""
    async with open_trust(settings, clock) as parts:
        now_ms = clock.now_ms()
        epoch = 1 if parts.sealer is None else await parts.sealer.epoch()
        ledger = await Ledger.open(
            settings.storage.path,
            signers=parts.signers,
            projections=(TerminalProjection(), TokenProjection()),
            clock=clock,
            store_key=parts.store_key,
            beginning=Beginning(genesis=parts.genesis, created_ms=now_ms, first=epoch_draft(epoch, now_ms)),
        )
        try:
            yield parts, ledger
        finally:
            await ledger.close()


async def _signed_by_old_keys(parts: Trust, signed: SignedStatement, size: int) -> Rotation:
    to_be_signed = rotation_to_be_signed(signed.statement, size)
    return Rotation(
        by_owner=signed,
        size=size,
        classical=await parts.signers.classical.sign(to_be_signed),
        post_quantum=await parts.signers.post_quantum.sign(to_be_signed),
    )


def _terminals_in(folder: Path, trust: KnownTrust, previous: PreviousHead | None) -> dict[bytes, str]:
    """Names by public key, replayed from verified entries: nothing of the old box's tables is believed."""
    projection = TerminalProjection()
    with open_folder(folder) as old, closing(sqlite3.connect(":memory:")) as connection:
        if verify_log(old.entries(), owner=trust.owner).root != old.head.root:
            raise CannotDo("the old data is not what its own head says", "restore another backup")
        if previous is not None and old.head.size >= previous.size:
            cosigned = verify_log(old.entries(previous.size), owner=trust.owner)
            if (cosigned.log_id, cosigned.root) != (previous.log_id, previous.root):
                raise CannotDo("the old data is not the log that witnesses have seen", "restore another backup")
        create_tables(connection, projection)
        for encoded in old.entries():
            if isinstance(encoded, PrunedEntry):
                continue  # who was paired is never pruned
            if (entry := recorded_entry(encoded)).kind in projection.kinds:
                projection.apply(connection, [entry])
        return {key: name for key, name, is_revoked in _rows(connection) if not is_revoked}


def _terminal_keys(connection: sqlite3.Connection) -> frozenset[bytes]:
    return frozenset(key for key, _, _ in _rows(connection))


def _rows(connection: sqlite3.Connection) -> list[tuple[bytes, str, int]]:
    return connection.execute("SELECT public_key, terminal, is_revoked FROM terminals").fetchall()


def _next_keys(box: Box) -> TokenKeys:
    try:
        return msgspec.json.decode((box.folder / _NEXT_KEYS).read_bytes(), type=TokenKeys)
    except FileNotFoundError as cause:
        raise CannotDo("no next keys were made here", "make a request first: tillstone succession next-keys") from cause


def _next_id(key_id: bytes) -> bytes:
    """1 is the first classical key's, 2 the wrapping key's."""
    return bytes([max(key_id[0], 2) + 1])


def _succeeding(box: Box) -> Box:
    return replace(box, shop=replace(box.shop, generation=box.shop.generation + 1))


def _data_of(box: Box, generation: int) -> Path:
    """Where the data of an older log of this box lies."""
    return box.folder / f"data-{generation}"
