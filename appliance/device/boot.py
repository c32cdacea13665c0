"""What happens between the start of the process and the first sale, as far as it is a decision.

    self-tests       before any key is touched; a wrong answer stops the start with its name
    epoch            the TPM's counter against the log's: fine, one step behind, or quarantine
    boot entry       the start itself is a fact

The order of building parts is `wiring.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from appliance.crypto import cbor
from appliance.crypto.self_test import run_all
from appliance.device.admission import Quarantine
from appliance.device.epochs import epoch_draft, epoch_of
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.epoch import Fine, Increment, compare_epoch
from appliance.ledger.epoch import Quarantine as Rollback
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.ports.clock import Clock
from appliance.ports.sealer import Sealer
from appliance.runtime.log import Log
from appliance.wire import entries

_SIGNATURE_WAIT_MS = 15_000


def self_test(log: Log) -> int:
    """Run every known-answer test; returns how many passed.

    Raises:
        Corrupt: `self_test_failed` with the test's name; no key was touched.
    """
    results = run_all()
    log.info("self_tests.passed", count=len(results), took_us=sum(result.took_us for result in results))
    return len(results)


async def begin_epoch(*, ledger: Ledger, sealer: Sealer, quarantine: Quarantine, clock: Clock, log: Log) -> int:
    """Compare the TPM's counter with the log, then begin the next epoch; returns the log's epoch.

    The entry is durable and its head signed *before* the counter moves: a crash between the two leaves the counter one
    behind, which the next start repairs. A counter ahead of the log means that the log lost its end.
    """
    in_log = await epoch_of(ledger)
    match compare_epoch(await sealer.epoch(), in_log):
        case Rollback(reason=reason):
            quarantine.set(reason)
            log.error("epoch.quarantined", reason=reason)
            return in_log
        case Increment():
            await sealer.advance_epoch()
        case Fine():
            pass
    following = in_log + 1
    (entry,) = await ledger.append([epoch_draft(following, clock.now_ms())], purpose=Purpose.OUTCOME)
    if await ledger.receipts([entry.seq], _SIGNATURE_WAIT_MS) is None:
        raise Unavailable("signing_down", "the epoch's entry could not be signed in time; the counter was not moved")
    await sealer.advance_epoch()
    log.info("epoch.begun", epoch=following)
    return following


async def renew_epochs(
    *,
    ledger: Ledger,
    sealer: Sealer,
    quarantine: Quarantine,
    clock: Clock,
    log: Log,
    days_closed: Callable[[], int],
) -> None:
    """A service: a new epoch every hour, so that a log rolled back by more than that is caught at the next start.

    Args:
        days_closed: counts closed days; a new one brings the next epoch within a minute.
    """
    while True:
        closed = days_closed()
        for _ in range(HOUR_MS // MINUTE_MS):
            await clock.sleep(MINUTE_MS)
            if days_closed() != closed:
                break
        try:
            await begin_epoch(ledger=ledger, sealer=sealer, quarantine=quarantine, clock=clock, log=log)
        except (Unavailable, OutcomeUnknown) as trouble:
            # Log and counter differ by at most one step, which the next round or start repairs.
            log.warning("epoch.postponed", code=trouble.code)


async def record_boot(
    *, ledger: Ledger, clock: Clock, version: str, self_tests: int, epoch: int, post_quantum: str
) -> None:
    """Write the start down."""
    body = entries.BootEntry(version=version, self_tests=self_tests, epoch=epoch, post_quantum=post_quantum)
    draft = Draft(kind=entries.BOOT, actor="box", time_ms=clock.now_ms(), body=cbor.encode(msgspec.to_builtins(body)))
    await ledger.append([draft], purpose=Purpose.OUTCOME)
