"""What can be wrong with the disk that holds the slots."""

from __future__ import annotations


class SlotsForeign(Exception):
    """The disk is not laid out as an image's is; nothing was written."""


class SlotFull(Exception):
    """What is to be written does not fit; what was begun cannot be started."""
