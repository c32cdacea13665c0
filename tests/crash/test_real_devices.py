"""The same ends with the token and the TPM in the loop: SoftHSM and swtpm live on, the box dies beside them."""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.box import BoxFailed, find_module, make_box, start_tpm
from provisioning.certificate import issue
from provisioning.sandbox.tills import ready_tills
from provisioning.settings_file import CardProvider, Ports, write_settings
from tests.crash.invariants import Told, check_log, check_money
from tests.crash.sellers import sale
from tests.crash.shop import SHOP, CrashShop, Nursery, Twin, free_port
from tests.crash.test_kill_campaign import run_campaign
from tests.stripe_twin import KEY
from tests.swtpm import require_swtpm

ANSWER_MS = 40_000
KILLS = 8
STARTING = ("before epoch", "after epoch", "signed", "before boot", "after boot")
SELLING = ("before intent", "after intent", "after ask", "after outcome")


@pytest.fixture(scope="module")
def real_shop(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, twin: Twin) -> Iterator[CrashShop]:
    """A whole box with devices; its process is down."""
    require_swtpm()
    if shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM (package softhsm2) is missing")
    try:
        find_module()
    except BoxFailed as missing:
        pytest.skip(str(missing))
    path = tmp_path_factory.mktemp("real")
    box = make_box(path / "box", shop=SHOP)
    tpm = start_tpm(box)
    door = issue(box.folder / "tls", now=datetime.datetime.now(datetime.UTC), shop=SHOP.name)
    (path / "stripe-key").touch(mode=0o600)
    (path / "stripe-key").write_text(KEY + "\n")
    port = free_port()
    cards = CardProvider(api_base=twin.base, api_key=path / "stripe-key")
    ports = Ports(pos=port, public=0)
    write_settings(box, tcti=tpm.tcti, ports=ports, door=door, cards=cards, room_bytes_min=16 * 2**20)
    # The key over the disclosures is wrapped by the token: the checks rebuild from entries alone.
    shop = CrashShop(
        path=path,
        nursery=nursery,
        twin=twin,
        port=port,
        store_key=None,
        environment={"SOFTHSM2_CONF": box.environment["SOFTHSM2_CONF"], "DEVICES": "real"},
    )
    asyncio.run(shop.start())
    ready_tills(shop.folder, door=door, pos_url=f"https://127.0.0.1:{port}")
    asyncio.run(shop.kill())
    yield shop
    asyncio.run(shop.kill())
    tpm.process.terminate()
    tpm.process.wait(10)


async def test_a_box_that_dies_anywhere_in_its_start_starts_again_without_quarantine(
    real_shop: CrashShop, tmp_path: Path
) -> None:
    for point in STARTING:
        real_shop.launch(die_at=point)
        assert await real_shop.died() == point
    await real_shop.start()
    async with real_shop.till() as client:
        key = client.new_key()
        answer = await client.payment(sale("cash", 100), key=key, deadline=client.deadline(ANSWER_MS))
        assert answer.state == "approved"
    await real_shop.kill()
    told = [Told(key=str(key), payment=str(key), state="approved")]
    await asyncio.to_thread(check_log, real_shop, tmp_path / "copy", told)


async def test_a_card_sale_that_dies_anywhere_ends_once_with_a_receipt(real_shop: CrashShop, tmp_path: Path) -> None:
    await real_shop.twin.heal()
    told = []
    for point in SELLING:
        await real_shop.start(die_at=point)
        async with real_shop.till() as client, asyncio.TaskGroup() as tasks:
            key = client.new_key()
            body = sale("card", 500)
            # One call through the death and the next start: the till asks again with the same key by itself.
            asking = tasks.create_task(client.payment(body, key=key, deadline=client.deadline(ANSWER_MS)))
            assert await real_shop.died() == point
            await real_shop.start()
            answer = await asking
        assert answer.state == ("not_charged" if point == "after intent" else "approved")
        assert answer.receipt is not None
        told.append(Told(key=str(key), payment=str(key), state=answer.state))
        await real_shop.kill()
    payments = await asyncio.to_thread(check_log, real_shop, tmp_path / "copy", told)
    charges = await real_shop.twin.charges()
    check_money(payments, [each for each in charges if each["metadata"]["tillstone_payment"] in payments])


async def test_killed_at_random_moments_with_token_and_tpm_nobody_is_cheated(
    real_shop: CrashShop, tmp_path: Path
) -> None:
    await real_shop.twin.heal()
    await run_campaign(real_shop, tmp_path / "copy", KILLS)
