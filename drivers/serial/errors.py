"""What a line can do to its user, named by what is known afterwards."""

from __future__ import annotations


class LineError(Exception):
    """Something went wrong on the line."""


class LineAway(LineError):
    """It could not be opened, or it broke."""


class LineSilent(LineError):
    """The other side sent nothing, or took nothing, until the deadline."""


class LineUnreadable(LineError):
    """The other side sent something that this device never sends."""
