"""What can go wrong at the board, named by what the caller must do."""

from __future__ import annotations


class BoardError(Exception):
    """Base of every error of this driver; never raised itself."""


class ContactUnreadable(BoardError):
    """The contact cannot be asked: no such line, no right to it, or it says something else than open or closed."""
