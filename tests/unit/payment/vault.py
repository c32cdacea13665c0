"""The vault of a box for tests, under an HSM in memory. Holds no test."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from appliance.device.admission import BoxAdmission
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.model.operation import FIRST_PROVIDER
from appliance.payment.vault.safe import Safe
from appliance.payment.vault.vault import Vault
from appliance.runtime.log import Log
from appliance.till.tokens import Tokens
from tests.fakes.cipher import FakeCipher
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import STORE_KEY


class Kept(TypedDict):
    hsm: FakeCipher
    safe: Safe
    vault: Vault


def open_vault(folder: Path, ledger: Ledger, clock: FakeClock, log: Log) -> Kept:
    hsm = FakeCipher(STORE_KEY)
    safe = Safe(folder=folder, cipher=hsm, is_ready=lambda: hsm.is_there)
    vault = Vault(safe=safe, ledger=ledger, clock=clock, log=log, is_in_clear=_is_in_clear)
    return Kept(hsm=hsm, safe=safe, vault=vault)


def tokens_of(
    authenticate: Authenticate, admission: BoxAdmission, ledger: Ledger, clock: FakeClock, vault: Vault
) -> Tokens:
    return Tokens(
        authenticate=authenticate,
        admission=admission,
        ledger=ledger,
        vault=vault,
        provider=FIRST_PROVIDER,
        clock=clock,
    )


def _is_in_clear(source: str) -> bool:
    return source.startswith("pm_1")
