"""Bodies of the entries about updates. Source: docs/formats/entry-kinds.md, "Kinds of the box"."""

from __future__ import annotations

from typing import Final

from appliance.wire.entries import SaleFacts
from appliance.wire.requests import Wire

UPDATE_STAGED: Final = "update_staged"
UPDATE_TRIED: Final = "update_tried"
UPDATE_CONFIRMED: Final = "update_confirmed"
UPDATE_FELL_BACK: Final = "update_fell_back"
SELF_TEST_SALE: Final = "self_test_sale"


class UpdateStagedEntry(Wire, frozen=True, kw_only=True):
    """kind `update_staged`: an update was verified and handed to the installer.

    Attributes:
        asked: the request, 16 bytes.
        before: the version that runs.
        number: of the release.
        resets: how often the platform had started from cold, as its TPM counts.
    """

    asked: bytes
    before: str
    number: int
    resets: int
    version: str
    root_hash: bytes


class UpdateTriedEntry(Wire, frozen=True, kw_only=True):
    """kind `update_tried`: the new image runs for the first time, after a start from cold."""

    resets: int
    version: str


class UpdateConfirmedEntry(Wire, frozen=True, kw_only=True):
    """kind `update_confirmed`: the new image sold the test sale `sale` (seq), and the boot loader knows it good."""

    sale: int
    number: int
    version: str


class UpdateFellBackEntry(Wire, frozen=True, kw_only=True):
    """kind `update_fell_back`: `before` goes on; `code` and `detail` say why."""

    code: str
    before: str
    detail: str = ""
    version: str


class SelfTestSaleEntry(Wire, frozen=True, kw_only=True):
    """kind `self_test_sale`: the box sold to itself, to see whether it can. No money moved, and nothing counts it."""

    sale: SaleFacts
    version: str
