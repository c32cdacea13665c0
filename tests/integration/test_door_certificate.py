"""Certificates never close a shop: a box makes its own from its token, and its till goes by their key alone."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import msgspec
import pytest

from appliance.model.errors import Rejected
from appliance.model.ids import terminal_id
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.certificate import issue
from provisioning.cli import main
from provisioning.terminal.client import open_terminal
from provisioning.terminal.home import TerminalHome
from provisioning.terminal.pairing import pair, read_qr
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, paired_till

SALE = PaymentBody(currency="EUR", amount_minor=1250, tenders=(TenderBody(kind="cash", amount_minor=1250),))
DEADLINE_MS = 20_000


def paired_home(box: RunningBox, folder: Path) -> TerminalHome:
    """A terminal's folder, paired by our own client through the real door."""
    home = TerminalHome(folder=folder)
    folder.mkdir(mode=0o700)
    clock, invitation = SystemClock(), read_qr(box.local.invite("till-1")["qr"])

    async def act() -> None:
        deadline = Deadline.after(clock, DEADLINE_MS)
        await pair(home, invitation, terminal=terminal_id("till-1"), clock=clock, deadline=deadline)

    asyncio.run(act())
    return home


def sell(box: RunningBox, home: TerminalHome) -> PaymentAnswer:
    """One sale by our own client; the box has another port at each start."""
    home.keep_profile(msgspec.structs.replace(home.profile(), url=box.url))

    async def act() -> PaymentAnswer:
        async with open_terminal(home, clock=SystemClock()) as till:
            return await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))

    return asyncio.run(act())


def test_box_whose_certificates_all_expired_still_sells(tmp_path: Path) -> None:
    with running_box(tmp_path, starts=False) as box:
        # An authority of ten years and a certificate of seven days, both long over.
        box.door = issue(tmp_path / "old", now=datetime.datetime(2010, 1, 1, tzinfo=datetime.UTC), shop="Shop")
        box.start()
        home = paired_home(box, tmp_path / "till-1")
        sold = sell(box, home)
        assert (sold.state, sold.receipt is not None) == ("approved", True)


def test_box_makes_its_certificate_anew_at_each_start_and_keeps_no_key_of_it(tmp_path: Path) -> None:
    with running_box(tmp_path, renews_its_door=True) as box:
        home = paired_home(box, tmp_path / "till-1")
        assert sell(box, home).state == "approved"
        first = _shown(box)
        assert [file.name for file in (tmp_path / "own").iterdir()] == ["authority.pem"]
        authority = (tmp_path / "own" / "authority.pem").read_bytes()
        box.power_cycle()
        box.start()
        assert sell(box, home).state == "approved"
        assert _shown(box) != first
        assert (tmp_path / "own" / "authority.pem").read_bytes() == authority
        assert paired_till(box, tmp_path, "till-2").ask("payment", CASH).status == 200
        assert not any(b"PRIVATE KEY" in file.read_bytes() for file in box.box.data.iterdir() if file.is_file())


def test_till_takes_the_authority_of_a_new_token_from_a_hand_it_trusts(tmp_path: Path) -> None:
    with running_box(tmp_path, renews_its_door=True) as box:
        home = paired_home(box, tmp_path / "till-1")
        now = datetime.datetime.now(datetime.UTC)
        home.keep_authority(issue(tmp_path / "lost", now=now, shop="Shop").authority.read_bytes())
        with pytest.raises(Rejected, match="certificate_wrong"):
            sell(box, home)
        follow = ["terminal", "follow", str(home.folder), "--trust", str(box.box.trust), "--authority"]
        assert main([*follow, str(box.door.certificate)]) == 2  # a door's chain is no authority
        with pytest.raises(Rejected, match="certificate_wrong"):
            sell(box, home)
        assert main([*follow, str(tmp_path / "own" / "authority.pem")]) == 0
        assert sell(box, home).state == "approved"


def _shown(box: RunningBox) -> bytes:
    with box.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return connection.getpeercert(binary_form=True) or b""
