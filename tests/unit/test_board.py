"""The board's drivers below their contract: the kernel's structures, and files that say something else."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from drivers.board import contact_gpio
from drivers.board.contact_file import FileContact
from drivers.board.contact_gpio import GpioContact
from drivers.board.errors import ContactUnreadable

HEADER = Path("/usr/include/linux/gpio.h")
STRUCTURES = {
    "gpio_v2_line_attribute": contact_gpio.LineAttribute,
    "gpio_v2_line_config_attribute": contact_gpio.LineConfigAttribute,
    "gpio_v2_line_config": contact_gpio.LineConfig,
    "gpio_v2_line_request": contact_gpio.LineRequest,
    "gpio_v2_line_values": contact_gpio.LineValues,
    "gpio_v2_line_event": contact_gpio.LineEvent,
}
CONSTANTS = {
    "GPIO_V2_GET_LINE_IOCTL": contact_gpio.GET_LINE,
    "GPIO_V2_LINE_GET_VALUES_IOCTL": contact_gpio.GET_VALUES,
    "GPIO_V2_LINE_FLAG_ACTIVE_LOW": contact_gpio.FLAG_ACTIVE_LOW,
    "GPIO_V2_LINE_FLAG_INPUT": contact_gpio.FLAG_INPUT,
    "GPIO_V2_LINE_FLAG_EDGE_RISING": contact_gpio.FLAG_EDGE_RISING,
    "GPIO_V2_LINE_FLAG_EDGE_FALLING": contact_gpio.FLAG_EDGE_FALLING,
    "GPIO_V2_LINE_ATTR_ID_DEBOUNCE": contact_gpio.ATTRIBUTE_DEBOUNCE,
    "GPIO_V2_LINE_EVENT_RISING_EDGE": contact_gpio.EVENT_RISING,
}


def test_structures_and_numbers_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    if shutil.which("cc") is None or not HEADER.exists():
        pytest.skip("a C compiler and linux/gpio.h (package linux-libc-dev) are needed")
    asked = [f'printf("%zu\\n", sizeof(struct {name}));' for name in STRUCTURES]
    known = [ctypes.sizeof(shape) for shape in STRUCTURES.values()]
    for name, shape in STRUCTURES.items():
        for field, *_ in shape._fields_:
            member = "flags" if (name, field) == ("gpio_v2_line_attribute", "value") else field
            asked.append(f'printf("%zu\\n", offsetof(struct {name}, {member}));')
            known.append(getattr(shape, field).offset)
    asked += [f'printf("%llu\\n", (unsigned long long){name});' for name in CONSTANTS]
    known += CONSTANTS.values()
    source = tmp_path / "abi.c"
    body = "\n".join(asked)
    source.write_text(
        f"#include <stddef.h>\n#include <stdio.h>\n#include <linux/gpio.h>\nint main(void) {{\n{body}\nreturn 0; }}\n"
    )
    subprocess.run(["cc", "-o", str(tmp_path / "abi"), str(source)], check=True, timeout=60)
    said = subprocess.run([str(tmp_path / "abi")], check=True, capture_output=True, text=True, timeout=10).stdout
    assert [int(line) for line in said.split()] == known


@pytest.mark.parametrize("said", [b"", b"2\n", b"open\n", b"-1\n", b"0 1\n", b"\xff" * 64])
def test_file_that_says_something_else_is_neither_open_nor_closed(tmp_path: Path, said: bytes) -> None:
    file = tmp_path / "alarm"
    file.write_bytes(said)
    with pytest.raises(ContactUnreadable):
        FileContact(file, debounce_s=0).is_open()


def test_opening_that_is_over_at_once_is_a_bounce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "alarm"
    file.write_text("1\n")
    waits: list[float] = []

    def bounce(seconds: float) -> None:
        waits.append(seconds)
        file.write_text("0\n")

    monkeypatch.setattr("drivers.board.contact_file.time.sleep", bounce)
    assert not FileContact(file, debounce_s=0.02).is_open()
    assert waits == [0.02]


def test_reset_never_makes_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ContactUnreadable):
        FileContact(tmp_path / "alarm", debounce_s=0).reset()
    assert not (tmp_path / "alarm").exists()


def test_chip_that_is_not_there_or_no_chip_is_unreadable(tmp_path: Path) -> None:
    for chip in (tmp_path / "gpiochip0", Path("/dev/null")):
        with pytest.raises(ContactUnreadable):
            GpioContact(str(chip), 0, is_active_low=False, debounce_s=0.01)
