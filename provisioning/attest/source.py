"""Where an attestation comes from: the public door of a box, or a file that was saved. Owns asking and reading it."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from appliance.ledger.attestation import NONCE_BYTES
from appliance.model.errors import Rejected, Unavailable
from appliance.wire.answers import Problem
from appliance.wire.attestation import Attestation
from provisioning.commands.named_file import read_named

ANSWER_BYTES_MAX: Final = 2 << 20
_ASK_S_MAX: Final = 30.0
_ATTEMPTS_MAX: Final = 8
_PAUSE_S: Final = 1.0


def new_nonce() -> bytes:
    """What nobody could have known before."""
    return os.urandom(NONCE_BYTES)


def is_url(source: str) -> bool:
    """Whether somebody named a door rather than a file."""
    return urlsplit(source).scheme in ("http", "https")


def ask(url: str, nonce: bytes) -> Attestation:
    """Ask the public door at `url`; one that answers too many others is asked again for some seconds.

    Raises:
        Unavailable: `box_unreachable`, or the box's own code: it cannot answer now.
        Rejected: the box's own code; `attestation_malformed`.
    """
    request = urllib.request.Request(f"{url.rstrip('/')}/attestation?nonce={nonce.hex()}")  # noqa: S310 - is_url looked
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        try:
            with urllib.request.urlopen(request, timeout=_ASK_S_MAX) as answer:  # noqa: S310 - the same address
                return decode(answer.read(ANSWER_BYTES_MAX + 1))
        except urllib.error.HTTPError as refusal:
            if refusal.code != HTTPStatus.TOO_MANY_REQUESTS or attempt == _ATTEMPTS_MAX:
                raise _refused(refusal.read(ANSWER_BYTES_MAX), refusal.code) from refusal
            time.sleep(_PAUSE_S)
        except (urllib.error.URLError, OSError) as cause:
            raise Unavailable("box_unreachable", f"no answer from {url}: {cause}") from cause
    raise Unavailable("box_unreachable", f"{url} was not asked")


def read_saved(path: Path) -> Attestation:
    """Raises CannotDo, and Rejected `attestation_malformed`."""
    return decode(read_named(path, ANSWER_BYTES_MAX))


def decode(encoded: bytes) -> Attestation:
    """Raises Rejected `attestation_malformed`."""
    if len(encoded) > ANSWER_BYTES_MAX:
        raise Rejected("attestation_malformed", f"expected at most {ANSWER_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(encoded, type=Attestation)
    except msgspec.MsgspecError as cause:
        raise Rejected("attestation_malformed", f"expected an attestation: {cause}") from cause


def _refused(body: bytes, status: int) -> Rejected | Unavailable:
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        return Unavailable("box_unreachable", f"expected a box's public door, which gives no plain {status}")
    kind = Unavailable if status in (429, 503) else Rejected
    return kind(problem.code, problem.detail)
