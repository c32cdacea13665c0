"""The watch over the contact: one word for each opening, none lost, and a broken sensor closes no shop."""

from __future__ import annotations

import pytest

from appliance.device.health import Level
from appliance.device.tamper import TamperWatch
from appliance.model.errors import Rejected, Unavailable
from tests.fakes.clock import FakeClock
from tests.fakes.tamper import FakeContact
from tests.unit.runtime.lines import Lines


class Told:
    def __init__(self) -> None:
        self.count = 0
        self.failures = 0

    async def hear(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("disk_full", "a test said so")
        self.count += 1


def watch_of(contact: FakeContact, told: Told) -> TamperWatch:
    return TamperWatch(contact=contact, opened=told.hear, clock=FakeClock(), log=Lines().log)


async def test_opening_is_told_once_until_it_was_reset_and_closed() -> None:
    contact, told = FakeContact(), Told()
    watch = watch_of(contact, told)
    await watch.look()
    contact.is_lid_open = True
    for _ in range(3):
        await watch.look()
    assert told.count == 1
    contact.is_lid_open = False
    await watch.require_closed()
    await watch.look()
    contact.is_lid_open = True
    await watch.look()
    assert told.count == 2


async def test_opening_that_could_not_be_told_is_told_again() -> None:
    contact, told = FakeContact(), Told()
    contact.is_lid_open, told.failures = True, 2
    watch = watch_of(contact, told)
    for _ in range(4):
        await watch.look()
    assert told.count == 1


async def test_open_case_is_not_unlocked() -> None:
    contact = FakeContact()
    contact.is_lid_open = True
    with pytest.raises(Rejected) as refused:
        await watch_of(contact, Told()).require_closed()
    assert refused.value.code == "tamper_open"


async def test_contact_that_cannot_be_read_is_said_and_locks_nothing() -> None:
    contact, told = FakeContact(), Told()
    watch = watch_of(contact, told)
    contact.is_away = True
    await watch.look()
    assert (told.count, watch.check().level) == (0, Level.COPING)
    contact.is_away = False
    await watch.look()
    assert watch.check().level is Level.OK
