"""A tamper contact on a GPIO line, by the kernel's character device, ABI version 2 (Linux 5.10 and newer).

Asked with edges, so that an opening between two looks is not missed: the kernel queues it. The kernel debounces too.
The structures below are those of `linux/gpio.h`; a test compiles that header and compares every offset.

Source: Documentation/userspace-api/gpio/chardev.rst of Linux.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
from typing import Final

from drivers.board.errors import ContactUnreadable

_LINES_MAX: Final = 64
_ATTRIBUTES_MAX: Final = 10
_NAME_BYTES: Final = 32
FLAG_ACTIVE_LOW: Final = 1 << 1
FLAG_INPUT: Final = 1 << 2
FLAG_EDGE_RISING: Final = 1 << 4
FLAG_EDGE_FALLING: Final = 1 << 5
ATTRIBUTE_DEBOUNCE: Final = 3
EVENT_RISING: Final = 1
_CONSUMER: Final = b"tillstone tamper"
_EVENTS_PER_READ: Final = 16


class LineAttribute(ctypes.Structure):
    """struct gpio_v2_line_attribute; `value` stands for its union, of which we use `debounce_period_us`."""

    _fields_ = (("id", ctypes.c_uint32), ("padding", ctypes.c_uint32), ("value", ctypes.c_uint64))


class LineConfigAttribute(ctypes.Structure):
    """struct gpio_v2_line_config_attribute."""

    _fields_ = (("attr", LineAttribute), ("mask", ctypes.c_uint64))


class LineConfig(ctypes.Structure):
    """struct gpio_v2_line_config."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("num_attrs", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5),
        ("attrs", LineConfigAttribute * _ATTRIBUTES_MAX),
    )


class LineRequest(ctypes.Structure):
    """struct gpio_v2_line_request."""

    _fields_ = (
        ("offsets", ctypes.c_uint32 * _LINES_MAX),
        ("consumer", ctypes.c_char * _NAME_BYTES),
        ("config", LineConfig),
        ("num_lines", ctypes.c_uint32),
        ("event_buffer_size", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5),
        ("fd", ctypes.c_int32),
    )


class LineValues(ctypes.Structure):
    """struct gpio_v2_line_values."""

    _fields_ = (("bits", ctypes.c_uint64), ("mask", ctypes.c_uint64))


class LineEvent(ctypes.Structure):
    """struct gpio_v2_line_event."""

    _fields_ = (
        ("timestamp_ns", ctypes.c_uint64),
        ("id", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("seqno", ctypes.c_uint32),
        ("line_seqno", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 6),
    )


def _iowr(number: int, structure: type[ctypes.Structure]) -> int:
    """_IOWR(0xB4, number, structure) of asm-generic/ioctl.h."""
    return (3 << 30) | (ctypes.sizeof(structure) << 16) | (0xB4 << 8) | number


GET_LINE: Final = _iowr(0x07, LineRequest)
GET_VALUES: Final = _iowr(0x0E, LineValues)


class GpioContact:
    """One line; active is open.

    Args:
        chip: such as `/dev/gpiochip0`.
        is_active_low: the contact pulls the line down when it opens.
    """

    def __init__(self, chip: str, offset: int, *, is_active_low: bool, debounce_s: float) -> None:
        self._was_open = False
        request = LineRequest(num_lines=1, event_buffer_size=_EVENTS_PER_READ, consumer=_CONSUMER)
        request.offsets[0] = offset
        low = FLAG_ACTIVE_LOW if is_active_low else 0
        request.config.flags = FLAG_INPUT | FLAG_EDGE_RISING | FLAG_EDGE_FALLING | low
        request.config.num_attrs = 1
        request.config.attrs[0].attr.id = ATTRIBUTE_DEBOUNCE
        # A union in native order: `debounce_period_us` is its first four bytes.
        ctypes.c_uint32.from_buffer(request.config.attrs[0].attr, LineAttribute.value.offset).value = round(
            debounce_s * 1e6
        )
        request.config.attrs[0].mask = 1
        try:
            chip_descriptor = os.open(chip, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(chip_descriptor, GET_LINE, request)
            finally:
                os.close(chip_descriptor)
        except OSError as cause:
            raise ContactUnreadable(f"line {offset} of {chip} cannot be had: {cause.strerror}") from cause
        self._descriptor = int(request.fd)

    def is_open(self) -> bool:
        """Whether the case is open, or was since the last reset. Raises ContactUnreadable."""
        try:
            self._was_open |= self._has_risen() or self._level()
        except OSError as cause:
            raise ContactUnreadable(f"the GPIO line cannot be read: {cause.strerror}") from cause
        return self._was_open

    def reset(self) -> None:
        """Forget an opening that is over. Raises ContactUnreadable."""
        self.is_open()  # takes what waits in the queue
        self._was_open = False

    def close(self) -> None:
        """Give the line back."""
        os.close(self._descriptor)

    def _level(self) -> bool:
        values = LineValues(mask=1)
        fcntl.ioctl(self._descriptor, GET_VALUES, values)
        return bool(values.bits & 1)

    def _has_risen(self) -> bool:
        risen = False
        size = ctypes.sizeof(LineEvent)
        while select.select([self._descriptor], [], [], 0)[0]:
            octets = os.read(self._descriptor, size * _EVENTS_PER_READ)
            events = [LineEvent.from_buffer_copy(octets, at) for at in range(0, len(octets), size)]
            risen |= any(event.id == EVENT_RISING for event in events)
        return risen
