"""One promise list for every contact: a file of one digit as hwmon has it, a GPIO line, and the fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from appliance.adapters.tamper import BoardContact
from appliance.model.errors import Unavailable
from appliance.ports.tamper import TamperContact
from tests.fakes.tamper import FakeContact

DEBOUNCE_MS = 5
GPIO_SIM = Path("/sys/kernel/config/gpio-sim")


class Rig(Protocol):
    """A contact and the hand at the lid."""

    @property
    def contact(self) -> TamperContact: ...
    def open_lid(self) -> None: ...
    def close_lid(self) -> None: ...
    def unplug(self) -> None: ...
    async def close(self) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self.contact = FakeContact()

    def open_lid(self) -> None:
        self.contact.is_lid_open = True

    def close_lid(self) -> None:
        self.contact.is_lid_open = False

    def unplug(self) -> None:
        self.contact.is_away = True

    async def close(self) -> None:
        return None


class FileRig:
    """hwmon latches in hardware: a closed lid leaves the 1 there, an open one sets it again after a reset."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "intrusion0_alarm"
        self._file.write_text("0\n")
        self.contact = BoardContact(f"file:{self._file}", debounce_ms=DEBOUNCE_MS)

    def open_lid(self) -> None:
        self._file.write_text("1\n")

    def close_lid(self) -> None:
        return None

    def unplug(self) -> None:
        self._file.unlink()

    async def close(self) -> None:
        await self.contact.close()


class GpioRig:
    """A line of a simulated chip (Documentation/admin-guide/gpio/gpio-sim.rst)."""

    def __init__(self) -> None:
        self._device = GPIO_SIM / "tillstone-test"
        bank = self._device / "bank0"
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text("4")
        (self._device / "live").write_text("1")
        chip = (bank / "chip_name").read_text().strip()
        self._pull = Path("/sys/bus/gpio/devices") / chip / "sim_gpio2" / "pull"
        self.contact = BoardContact(f"gpio:/dev/{chip}:2", debounce_ms=DEBOUNCE_MS)

    def open_lid(self) -> None:
        self._pull.write_text("pull-up")

    def close_lid(self) -> None:
        self._pull.write_text("pull-down")

    def unplug(self) -> None:
        (self._device / "live").write_text("0")

    async def close(self) -> None:
        await self.contact.close()
        with suppress(OSError):
            (self._device / "live").write_text("0")
        (self._device / "bank0").rmdir()
        self._device.rmdir()


@pytest.fixture(params=["fake", "file", "gpio"])
def made_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    # Apart from `rig`, because files block and the event loop must not.
    if request.param == "gpio" and not GPIO_SIM.is_dir():
        pytest.skip("optional: this kernel has no gpio-sim (module gpio-sim, configfs)")
    return FakeRig() if request.param == "fake" else FileRig(tmp_path) if request.param == "file" else GpioRig()


@pytest.fixture
async def rig(made_rig: Rig) -> AsyncIterator[Rig]:
    yield made_rig
    await made_rig.close()


async def test_closed_case_is_closed_at_every_look(rig: Rig) -> None:
    assert [await rig.contact.is_open() for _ in range(3)] == [False, False, False]


async def test_opening_counts_until_the_reset_also_when_it_was_closed_again(rig: Rig) -> None:
    await rig.contact.is_open()
    await asyncio.to_thread(rig.open_lid)
    assert await rig.contact.is_open()
    await asyncio.to_thread(rig.close_lid)
    assert await rig.contact.is_open()
    await rig.contact.reset()
    assert not await rig.contact.is_open()


async def test_contact_that_is_gone_is_never_closed(rig: Rig) -> None:
    await rig.contact.is_open()
    await asyncio.to_thread(rig.unplug)
    with pytest.raises(Unavailable) as trouble:
        await rig.contact.is_open()
    assert trouble.value.code == "tamper_unreadable"
