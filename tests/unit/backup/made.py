"""A shop's log with everything that a backup holds, and its backup, in short words for tests. Holds no test."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import Any, Final

from appliance.crypto import hpke
from appliance.crypto.hpke import Recipient
from appliance.device.backup import Backup, BackupSource
from appliance.ledger.ledger import Ledger
from appliance.ledger.trust import Trust, encode_trust, load_trust
from appliance.ports.clock import Clock
from provisioning.restore.unpack import Unpacked, unpack
from tests.fakes.cipher import FakeCipher
from tests.fakes.clock import SkippingClock
from tests.unit.ledger.shop import STORE_KEY, genesis, owner
from tests.unit.payment.shop import PROJECTIONS, Shop, open_shop
from tests.unit.till.kept import CUSTOMER, keep, pay

SEED: Final = bytes(range(32))
SETTINGS: Final[dict[str, Any]] = {
    "shop": {"name": "Corner Shop", "currency": "EUR"},
    "provider": {"stripe": {"api_base": "https://api.stripe.com", "readers": ["till-1 tmr_1"]}},
}
API_KEY: Final = b"sk_live_ofTheShop\n"
PLACE: Final = "provider.stripe.api_key_path"


def trust() -> Trust:
    return load_trust(encode_trust(owner().public, [genesis()]))


def make(ledger: Ledger, folder: Path, *, cipher: FakeCipher | None = None, clock: Clock | None = None) -> Backup:
    """What makes backups of the log in `folder`."""
    secret = folder.with_name(f"{folder.name}-api-key")
    source = BackupSource(
        folder=folder,
        files=lambda: _written(secret),
        settings=SETTINGS,
        store_key=STORE_KEY,
        cipher=cipher or FakeCipher(STORE_KEY),
        checkpoint=None,
    )
    recipient = Recipient(hpke.public_key_of(SEED))
    return Backup(ledger=ledger, source=source, recipient=recipient, clock=clock or SkippingClock())


def _written(secret: Path) -> dict[str, Path]:
    roots = secret.with_name("roots")
    roots.write_bytes(os.urandom(200_000))  # so that there are some chunks
    secret.write_bytes(API_KEY)
    return {PLACE: secret, "provider.paypal.webhooks.roots_path": roots}


async def bytes_of(backup: Backup) -> bytes:
    async with aclosing(backup.stream()) as pieces:
        return b"".join([piece async for piece in pieces])


async def sell_some(shop: Shop, count: int = 40) -> str:
    """Sales, one of them to a customer by a token that the vault keeps; the token's name."""
    name = await keep(shop, customer=CUSTOMER)
    await pay(shop, name, customer=CUSTOMER)
    for _ in range(count):
        await pay(shop, "pm_card_visa", cashier="Ada")
    return name


@cache
def whole() -> bytes:
    """A backup of some chunks, made once for the whole run."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_whole(Path(folder) / "log"))


async def _whole(folder: Path) -> bytes:
    async with open_shop(folder) as shop:
        await sell_some(shop, 10)
        return await bytes_of(make(shop.ledger, folder))


def taken_out(
    content: bytes, folder: Path, *, seed: bytes = SEED, known: Trust | None = None, further: bytes | None = None
) -> Unpacked:
    """Unpack into a new folder, with an exported log that goes further where one is given."""
    folder.mkdir()
    file = folder.with_name(f"{folder.name}.backup")
    file.write_bytes(content)
    with file.open("rb") as opened:
        return unpack(
            opened,
            seed=seed,
            trust=known or trust(),
            folder=folder,
            tables=PROJECTIONS,
            further=None if further is None else io.BytesIO(further),
        )
