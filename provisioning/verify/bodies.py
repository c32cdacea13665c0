"""From the bytes of an entry's body to its shape. Owns the table of kinds; must never guess at a kind it does not know.

Source: docs/formats/entry-kinds.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from appliance.crypto import cbor
from appliance.crypto.owner import SignedStatement
from appliance.ledger import disclosures, epoch, genesis, pruned, snapshot, succession
from appliance.ledger.entry import ENTRY_BYTES_MAX, Entry
from appliance.ledger.log_keys import Distrust
from appliance.model.errors import Corrupt, Rejected
from appliance.wire import (
    attestation,
    backup_entries,
    ceremony_entries,
    device_entries,
    entries,
    escrow_entries,
    reconcile_entries,
    till_entries,
    update_entries,
    vault_entries,
)
from appliance.wire.requests import Wire

SHAPES: Final[dict[str, type[Wire]]] = {
    entries.SALE: entries.SaleEntry,
    entries.INTENT: entries.IntentEntry,
    entries.OUTCOME: entries.OutcomeEntry,
    entries.REFUND: entries.UndoEntry,
    entries.REVERSAL: entries.UndoEntry,
    entries.TOMBSTONE: entries.TombstoneEntry,
    entries.REVERSAL_WANTED: entries.ReversalWantedEntry,
    entries.SALE_GIVEN_UP: entries.SaleGivenUpEntry,
    entries.TERMINAL_PAIRED: entries.TerminalPairedEntry,
    entries.TERMINAL_REVOKED: entries.TerminalRevokedEntry,
    entries.BOOT: entries.BootEntry,
    device_entries.DEVICE_STATE: device_entries.DeviceStateEntry,
    device_entries.CLOCK_MARK: device_entries.ClockMarkEntry,
    device_entries.CLOCK_SET: device_entries.ClockSetEntry,
    update_entries.UPDATE_STAGED: update_entries.UpdateStagedEntry,
    update_entries.UPDATE_TRIED: update_entries.UpdateTriedEntry,
    update_entries.UPDATE_CONFIRMED: update_entries.UpdateConfirmedEntry,
    update_entries.UPDATE_FELL_BACK: update_entries.UpdateFellBackEntry,
    update_entries.SELF_TEST_SALE: update_entries.SelfTestSaleEntry,
    entries.CLOCK_STEP: entries.ClockStepEntry,
    entries.REFUSALS: entries.RefusalsEntry,
    entries.AUDITOR_ADMITTED: entries.AuditorAdmittedEntry,
    entries.AUDITOR_REVOKED: entries.AuditorRevokedEntry,
    entries.AUDITOR_READ: entries.AuditorReadEntry,
    entries.VERIFIED: entries.VerifiedEntry,
    entries.EXPORTED: entries.ExportedEntry,
    entries.SCREENING_REFUSED: entries.ScreeningRefusedEntry,
    entries.SCREENING_CHANGED: entries.ScreeningChangedEntry,
    entries.CONTRADICTED: entries.ContradictedEntry,
    attestation.ATTESTED: attestation.AttestedEntry,
    till_entries.DRAWER_FLOAT: till_entries.DrawerEntry,
    till_entries.DRAWER_PAID_IN: till_entries.DrawerEntry,
    till_entries.DRAWER_PAID_OUT: till_entries.DrawerEntry,
    till_entries.DRAWER_NO_SALE: till_entries.DrawerEntry,
    till_entries.DRAWER_COUNT: till_entries.DrawerEntry,
    till_entries.DRAWER_CLOSED: till_entries.PeriodClosedEntry,
    till_entries.TERMINAL_CLOSED: till_entries.PeriodClosedEntry,
    till_entries.DAY_CLOSED: till_entries.DayClosedEntry,
    reconcile_entries.RECONCILED: reconcile_entries.ReconciledEntry,
    reconcile_entries.RECONCILED_MORE: reconcile_entries.ReconciledMoreEntry,
    reconcile_entries.BREAK_ACCEPTED: reconcile_entries.BreakAcceptedEntry,
    backup_entries.BACKED_UP: backup_entries.BackedUpEntry,
    escrow_entries.ESCROWED: escrow_entries.EscrowedEntry,
    escrow_entries.ESCROW_RECOVERED: escrow_entries.RecoveredEntry,
    ceremony_entries.PROVISIONED: ceremony_entries.ProvisionedEntry,
    vault_entries.KEPT: vault_entries.TokenKeptEntry,
    vault_entries.FORGOTTEN: vault_entries.TokenForgottenEntry,
    vault_entries.KEY_MADE: vault_entries.VaultKeyMadeEntry,
    vault_entries.KEY_DESTROYED: vault_entries.VaultKeyDestroyedEntry,
    till_entries.VOUCHER_ISSUED: till_entries.VoucherIssuedEntry,
    till_entries.VOUCHER_VOIDED: till_entries.VoucherVoidedEntry,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochBody:
    """kind `epoch`."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedBody:
    """kind `erased`: how many keys were forgotten. The subject's opaque id stays in the bytes."""

    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownBody:
    """A kind from a newer release: proven to be in the log, not understood here."""


Body: TypeAlias = (
    Wire
    | genesis.GenesisStatement
    | succession.RotationStatement
    | Distrust
    | EpochBody
    | ErasedBody
    | snapshot.Snapshot
    | pruned.PrunedBody
    | UnknownBody
)


def read_body(entry: Entry) -> tuple[Body, dict[str, object]]:
    """The body of `entry`, and the same for JSON with bytes in hexadecimal.

    Raises:
        Rejected: `entry_body_malformed`: it is not what its kind promises.
    """
    try:
        value = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
        body = _shaped(entry, value)
    except (Rejected, Corrupt, msgspec.ValidationError) as cause:
        detail = f"entry {entry.seq} is not what its kind {entry.kind!r} promises: {cause}"
        raise Rejected("entry_body_malformed", detail) from cause
    plain = _plain(value)
    return body, plain if isinstance(plain, dict) else {}


def _shaped(entry: Entry, value: object) -> Body:
    if entry.kind == genesis.KIND:
        return genesis.read_body(entry.body).read()
    if entry.kind == epoch.KIND:
        return EpochBody(epoch=epoch.read_epoch(entry.body))
    if entry.kind == disclosures.KIND_ERASED:
        return ErasedBody(keys=len(disclosures.read_erased(entry.body)))
    if entry.kind == pruned.SNAPSHOT:
        return snapshot.read_snapshot(entry.body)
    if entry.kind == pruned.PRUNED:
        return pruned.read_pruned(entry.body)
    if entry.kind == succession.ROTATION:
        return succession.read_rotation_statement(succession.read_rotation(entry.body).by_owner.statement)
    if entry.kind == succession.DISTRUST:
        return succession.read_distrust(SignedStatement.decode(entry.body).statement)
    shape = SHAPES.get(entry.kind)
    return UnknownBody() if shape is None else msgspec.convert(value, shape)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
