"""What an entry says, in one plain sentence for people. Owns the wording of every kind; decides nothing."""

from __future__ import annotations

from appliance.ledger.entry import Entry
from appliance.ledger.genesis import GenesisStatement
from appliance.ledger.log_keys import Distrust
from appliance.ledger.pruned import PrunedBody
from appliance.ledger.snapshot import Snapshot
from appliance.ledger.succession import RotationStatement
from appliance.model.operation import OperationKind, OperationState
from appliance.payment.entry_body import given_minor
from appliance.wire import (
    attestation,
    backup_entries,
    ceremony_entries,
    device_entries,
    entries,
    escrow_entries,
    till_entries,
    update_entries,
    vault_entries,
)
from appliance.wire.requests import Wire
from provisioning.verify.bodies import Body, EpochBody, ErasedBody
from provisioning.verify.wording import key_text, money_text, printable, short, time_text

_OUTCOMES = {
    (OperationKind.AUTHORISE, OperationState.CONFIRMED): "the provider took the money: approved",
    (OperationKind.AUTHORISE, OperationState.REJECTED): "the provider said no: declined",
    (OperationKind.AUTHORISE, OperationState.ABSENT): "the provider never made the charge: nothing was paid",
    (OperationKind.OFFER, OperationState.CONFIRMED): "the customer agreed; the money is taken next",
    (OperationKind.RESERVE, OperationState.CONFIRMED): "the card's bank holds the money: authorised, not charged",
    (OperationKind.RESERVE, OperationState.REJECTED): "the provider said no: declined",
    (OperationKind.RESERVE, OperationState.ABSENT): "the provider never asked the card's bank: nothing was paid",
    (OperationKind.CAPTURE, OperationState.CONFIRMED): "the provider charged what was held: approved",
    (OperationKind.CANCEL, OperationState.CONFIRMED): "what was held was given up: nothing was charged",
    (
        OperationKind.AUTHORISE,
        OperationState.ACCEPTED,
    ): "accepted offline: the card's bank was not asked, not charged yet",
    (OperationKind.FORWARD, OperationState.CONFIRMED): "the card's bank agreed to what was accepted offline: approved",
    (OperationKind.FORWARD, OperationState.REJECTED): "the card's bank said no after the goods were gone: not charged",
    (OperationKind.FORWARD, OperationState.ABSENT): "the card's bank could not be asked: still accepted offline",
    (OperationKind.WITHDRAW, OperationState.CONFIRMED): "what was accepted offline was withdrawn: nothing was charged",
    (OperationKind.WITHDRAW, OperationState.REJECTED): "not withdrawn: the card's bank is asked, the reversal follows",
    (OperationKind.REFUND, OperationState.CONFIRMED): "the provider gave the money back",
    (OperationKind.REVERSE, OperationState.CONFIRMED): "the provider undid the charge",
}


_TENDERS = {"card_stated": "card (stated by cashier)"}


def sentence(entry: Entry, body: Body) -> str:
    """What `entry` with `body` says."""
    match body:
        case entries.SaleEntry():
            return f"{_sale(body.sale)}, by {_who(entry)}, {_paid(body.asked.key)}"
        case entries.IntentEntry():
            return _intent(entry, body)
        case entries.OutcomeEntry():
            return _outcome(body)
        case entries.UndoEntry():
            word = "refund" if entry.kind == entries.REFUND else "reversal"
            given = money_text(given_minor(body), body.currency)
            parts = f"{money_text(body.cash, body.currency)} cash, {money_text(body.card, body.currency)} card"
            for minor, kind in ((body.stated, _TENDERS["card_stated"]), (body.voucher, "voucher")):
                parts += f", {money_text(minor, body.currency)} {kind}" if minor else ""
            left = f", {money_text(body.left, body.currency)} left" if body.left else ""
            lines = f", lines {', '.join(str(line.index) for line in body.lines)}" if body.lines else ""
            return f"{word} of {given} ({parts}){lines}{left}, by {_who(entry)}, {_paid(body.payment)}"
        case till_entries.VoucherIssuedEntry() | till_entries.VoucherVoidedEntry():
            return _voucher(entry, body)
        case vault_entries.TokenKeptEntry():
            return _token_kept(entry, body)
        case vault_entries.TokenForgottenEntry():
            reason = f": {printable(body.reason)}" if body.reason else ""
            return f"token {printable(body.name)} was forgotten, by {_who(entry)}{reason}"
        case GenesisStatement():
            return f"the log begins: {printable(body.origin)}, named by its owner at {time_text(body.created_ms)}"
        case till_entries.DrawerEntry() | till_entries.PeriodClosedEntry() | till_entries.DayClosedEntry():
            return _about_the_till(entry, body)
        case _:
            return _about_the_box(body)


_ACTS = {
    till_entries.DRAWER_FLOAT: "float of {} into",
    till_entries.DRAWER_PAID_IN: "{} paid into",
    till_entries.DRAWER_PAID_OUT: "{} paid out of",
    till_entries.DRAWER_COUNT: "{} counted in",
}


def _voucher(entry: Entry, body: till_entries.VoucherIssuedEntry | till_entries.VoucherVoidedEntry) -> str:
    named = f"voucher {short(body.voucher)} of {money_text(body.amount, body.currency)}"
    sold = "given" if body.payment is None else f"sold with {_paid(body.payment)}"
    reason = f": {printable(body.reason)}" if body.reason else ""
    if isinstance(body, till_entries.VoucherVoidedEntry):
        return f"{named} taken back unspent, by {_who(entry)}, it was {sold}{reason}"
    ends = "without end" if body.expires is None else f"good until {time_text(body.expires)}"
    return f"{named} issued, {ends}, by {_who(entry)}, {sold}{reason}"


def _token_kept(entry: Entry, body: vault_entries.TokenKeptEntry) -> str:
    ends = "" if body.expires is None else f", until {time_text(body.expires)}"
    bound = "" if body.under is None else ", bound to a customer"
    purposes = " and ".join(printable(purpose) for purpose in body.purposes)
    named = f"token {printable(body.name)} of {printable(body.provider)} was kept for {purposes}"
    return f"{named}{ends}{bound}, by {_who(entry)}"


def _about_the_till(entry: Entry, body: Wire) -> str:
    match body:
        case till_entries.DrawerEntry():
            act = _ACTS.get(entry.kind, "no sale:").format(money_text(body.amount, body.currency))
            reason = f": {printable(body.reason)}" if body.reason else ""
            return f"{act} drawer {printable(body.drawer)}, by {_who(entry)}{reason}"
        case till_entries.DayClosedEntry():
            late = f", {body.late_count} outcomes of earlier days" if body.late_count else ""
            being_checked = f", {body.open_count} operations being checked" if body.open_count else ""
            return (
                f"shop day {printable(body.day)} closed by {_who(entry)}: {_came_to(body.period)}{being_checked}{late}"
            )
        case till_entries.PeriodClosedEntry():
            period = body.period
            named = f"{printable(period.scope)} {printable(period.name)}"
            return f"period {period.number} of {named} closed by {_who(entry)}: {_came_to(period)}"
        case _:
            return ""


def _came_to(period: till_entries.PeriodFacts) -> str:
    sold = f"{period.totals.sales} sales, {money_text(period.totals.total, period.currency)}"
    if period.cash is None:
        return sold
    return f"{sold}, cash left {money_text(period.cash.left, period.currency)}"


def _for(body: entries.TombstoneEntry | entries.ReversalWantedEntry) -> str:
    return "" if body.retry is None else f", because payment {key_text(body.retry)} is made in its place"


def _about_the_box(body: Body) -> str:
    match body:
        case entries.TombstoneEntry():
            return f"cancelled before it came: should it still come, it is refused, {_paid(body.payment)}{_for(body)}"
        case entries.ReversalWantedEntry():
            return f"a reversal is wanted and runs once the outcome is known, {_paid(body.payment)}{_for(body)}"
        case entries.SaleGivenUpEntry():
            reason = f": {printable(body.reason)}" if body.reason else ""
            return (
                f"a sale paid in parts was given up, no part follows and each goes back, {_paid(body.payment)}{reason}"
            )
        case entries.BootEntry():
            return f"the box started: version {printable(body.version)}, {body.self_tests} self-tests passed"
        case attestation.AttestedEntry():
            said = f"said nothing ({printable(body.missing)})" if body.digest is None else f"quote {short(body.digest)}"
            return f"the TPM about the box at the end of {printable(body.day)}: {said}"
        case entries.ClockStepEntry():
            return f"the clock was moved by {body.step_ms} ms"
        case entries.ScreeningRefusedEntry():
            rules = ", ".join(printable(reason.rule) for reason in body.screen.reasons)
            return f"screening refused a {printable(body.verb)}, no money moved: {rules}"
        case entries.ScreeningChangedEntry():
            changed = ", ".join(f"{printable(name)} = {printable(str(to))}" for name, to in body.changed.items())
            return f"the owner changed thresholds of screening: {changed}"
        case entries.VerifiedEntry():
            return f"the first {body.size} entries were read again and are right, in {body.took_ms} ms"
        case ceremony_entries.ProvisionedEntry():
            return f"the box was provisioned with the site that its owner signed, {short(body.site)}"
        case entries.ExportedEntry():
            return f"what was held about a person in {body.entries} entries was handed out"
        case RotationStatement():
            return f"the log goes on under new keys, named by its owner: rotation {body.number}"
        case Distrust():
            shown = f"key {short(body.key_id)} of log {short(body.log_id)}"
            return f"the owner no longer trusts {shown} for heads of more than {body.size} entries"
        case Snapshot():
            return f"the tables of the first {body.size} entries were copied; digests of {len(body.digests)} stand here"
        case PrunedBody():
            return f"entries below {body.below} were pruned under the snapshot of entry {body.snapshot}"
        case backup_entries.BackedUpEntry():
            return f"the first {body.size} entries, and what lies beside them, were sealed into a backup"
        case escrow_entries.EscrowedEntry():
            left = f", {body.left_out} more had no room" if body.left_out else ""
            return f"{body.waiting} payments whose money is not certain were sealed for terminals to keep{left}"
        case escrow_entries.RecoveredEntry():
            found = f"{printable(body.kind)} of {money_text(body.amount, body.currency)}: {printable(body.state)}"
            says = "nothing proves what became of" if body.state == "unknown" else "the provider says"
            return f"of the lost log {printable(body.origin)} {says} {found}, {_paid(body.payment)}"
        case vault_entries.VaultKeyMadeEntry():
            return f"tokens are sealed under the new data key {body.key:016x}"
        case vault_entries.VaultKeyDestroyedEntry():
            return f"the data key {body.key:016x} of tokens was destroyed"
        case device_entries.DeviceStateEntry() | device_entries.ClockMarkEntry() | device_entries.ClockSetEntry():
            return _about_the_device(body)
        case EpochBody():
            return f"epoch {body.epoch} began"
        case ErasedBody():
            return f"a person's data was erased ({body.keys} keys forgotten)"
        case _:
            return _about_access(body)


def _about_the_device(
    body: device_entries.DeviceStateEntry | device_entries.ClockMarkEntry | device_entries.ClockSetEntry,
) -> str:
    match body:
        case device_entries.DeviceStateEntry():
            was = "" if body.before == body.state else f", it was {printable(body.before)}"
            why = f": {printable(body.reason)}" if body.reason else ""
            return f"the box is {printable(body.state)}{was} (cause {printable(body.cause)}){why}"
        case device_entries.ClockMarkEntry():
            gap = f"; {body.unproven} ms before this nobody can prove" if body.unproven else ""
            return f"the TPM's clock stood at {body.powered} ms, restart {body.resets}{gap}"
        case device_entries.ClockSetEntry():
            said = "accepted as it is by" if body.proof == "operator" else "contradicted by"
            return f"the wall clock was {said} {printable(body.proof)}: off by {body.step_ms} ms"


def _about_access(body: Body) -> str:
    match body:
        case entries.TerminalPairedEntry():
            return f"terminal {printable(body.terminal)} was paired"
        case entries.TerminalRevokedEntry():
            return f"terminal {printable(body.terminal)} was revoked: {printable(body.reason) or 'no reason given'}"
        case entries.RefusalsEntry():
            return f"{sum(body.codes.values())} requests of terminal {printable(body.terminal)} were refused"
        case entries.AuditorAdmittedEntry():
            named = f"auditor {printable(body.auditor)}, credential {printable(body.credential)}"
            return f"{named}, may read entries until {time_text(body.expires_ms)}"
        case entries.AuditorRevokedEntry():
            return f"the credential {printable(body.credential)} was revoked: {printable(body.reason)}"
        case entries.AuditorReadEntry():
            reads = f"{body.entries} entries in {body.requests} requests, {body.first} to {body.last}"
            return f"the credential {printable(body.credential)} was shown {reads}"
        case _:
            return _about_an_update(body)


def _about_an_update(body: Body) -> str:
    match body:
        case update_entries.UpdateStagedEntry():
            update = f"the update to {printable(body.version)}, release number {body.number},"
            return f"{update} is to be installed; {printable(body.before)} runs"
        case update_entries.UpdateTriedEntry():
            return f"the update to {printable(body.version)} runs on trial"
        case update_entries.UpdateConfirmedEntry():
            refused = f"releases up to number {body.number} are refused from here on"
            return f"the update to {printable(body.version)} is confirmed after the test sale {body.sale}; {refused}"
        case update_entries.UpdateFellBackEntry():
            why = f": {printable(body.detail)}" if body.detail else ""
            fallen = f"the update to {printable(body.version)} fell back, {printable(body.before)} goes on"
            return f"{fallen} ({printable(body.code)}){why}"
        case update_entries.SelfTestSaleEntry():
            return f"a test: version {printable(body.version)} sold to itself; no money moved, and nothing counts it"
        case _:
            return "of a kind that this verifier does not know; it is in the log, and that is all that is said here"


def _sale(sale: entries.SaleFacts) -> str:
    tenders = " + ".join(
        kind if len(sale.tenders) == 1 else f"{kind} {money_text(minor, sale.currency)}"
        for kind, minor in ((_TENDERS.get(each.kind, each.kind), each.amount_minor) for each in sale.tenders)
    )
    reference = f", reference {printable(sale.reference)}" if sale.reference else ""
    change = f", change {money_text(sale.change, sale.currency)}" if sale.change else ""
    total = money_text(sale.total, sale.currency)
    what = f"sale of {total}" if sale.part_of is None else f"part of {total} of the sale of {_paid(sale.part_of)}"
    if sale.remaining:
        what += f", {money_text(sale.remaining, sale.currency)} of it left to other parts"
    return f"{what}, {tenders}{change}{reference}, sold at {time_text(sale.sold_at_ms)}"


def _intent(entry: Entry, body: entries.IntentEntry) -> str:
    operation = body.operation
    asked = f"{printable(operation.kind)} {money_text(operation.amount, operation.currency)}"
    if operation.target is not None:
        asked += f" of {printable(operation.target)}"
    what = f"{_sale(body.sale)}; " if body.sale is not None else ""
    return (
        f"{what}the provider is about to be asked to {asked}, by {_who(entry)}, {_paid(body.payment)}"
        " (this alone is no approval)"
    )


def _outcome(body: entries.OutcomeEntry) -> str:
    known = next((text for (kind, state), text in _OUTCOMES.items() if (kind, state) == (body.kind, body.state)), None)
    text = known or f"operation {printable(body.kind)}: {printable(body.state)}"
    reference = f", provider reference {printable(body.reference)}" if body.reference else ""
    code = f", code {printable(body.code)}" if body.code else ""
    if body.kind == OperationKind.AUTHORISE and body.amount is not None:
        text += f" for {body.amount} minor units alone, less than it was asked for"
    return f"{text}{reference}{code}, {_paid(body.payment)}"


def _who(entry: Entry) -> str:
    return printable(entry.actor).replace("terminal:", "terminal ", 1)


def _paid(key: bytes) -> str:
    return f"payment {key_text(key)}"
