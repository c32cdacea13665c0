"""Two shares of the owner's key as text: for two sheets of paper, two people, two places.

Owns the text of a share. Must never show or log one. Each share alone is random bytes (a one-time pad and its
ciphertext): whoever holds one knows nothing, and whoever loses one has lost the key.

Source: docs/succession.md, "A share".
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Final

from appliance.crypto.owner import OwnerKey
from appliance.model.errors import Rejected

SHARE_BYTES_MAX: Final = 4096
_TITLE: Final = re.compile(r"\Atillstone owner share ([12]) of 2\Z")
_OWNER: Final = re.compile(r"\Aowner ([0-9a-f]{64})\Z")
_LINE: Final = re.compile(r"\A(\d{1,3}) ([0-9a-f]{2,32}) ([0-9a-f]{4})\Z")
_LINE_BYTES: Final = 16
_END: Final = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of two.

    Attributes:
        number: 1 or 2.
        fingerprint: of the owner key that both give together.
    """

    number: int
    fingerprint: str
    content: bytes = field(repr=False)

    def text(self) -> str:
        """What is printed or filed: numbered lines of 16 bytes, each with check digits against slips of the pen."""
        lines = [f"tillstone owner share {self.number} of 2", f"owner {self.fingerprint}"]
        for at in range(0, len(self.content), _LINE_BYTES):
            part = self.content[at : at + _LINE_BYTES]
            shown = part.hex()
            groups = " ".join(shown[start : start + 4] for start in range(0, len(shown), 4))
            number = at // _LINE_BYTES + 1
            lines.append(f"{number:2}  {groups}  {_check_digits(self.number, number, part)}")
        return "\n".join([*lines, _END, ""])


def share_number(text: str) -> int | None:
    """Which share a file claims to be by its first line; None for another kind of file."""
    title = _TITLE.match(" ".join(text.partition("\n")[0].split()))
    return None if title is None else int(title[1])


def split(key: OwnerKey, passphrase: bytes | None) -> tuple[Share, Share]:
    """Two shares; with a passphrase both together still need it."""
    whole = key.to_bytes(passphrase)
    pad = os.urandom(len(whole))
    fingerprint = key.public.fingerprint
    return (
        Share(number=1, fingerprint=fingerprint, content=pad),
        Share(number=2, fingerprint=fingerprint, content=_xor(whole, pad)),
    )


def join(first: Share, second: Share, passphrase: bytes | None) -> OwnerKey:
    """The key.

    Raises:
        Rejected: `owner_shares_differ`: not the two shares of one key; `owner_passphrase_wrong`.
    """
    if {first.number, second.number} != {1, 2} or first.fingerprint != second.fingerprint:
        raise Rejected("owner_shares_differ", "expected share 1 and share 2 of the same owner")
    if len(first.content) != len(second.content):
        raise Rejected("owner_shares_differ", "expected two shares of equal length, made at the same time")
    try:
        key = OwnerKey.from_bytes(_xor(first.content, second.content), passphrase)
    except Rejected as refusal:
        if refusal.code == "owner_passphrase_wrong":
            raise
        raise Rejected("owner_shares_differ", "the two shares do not give a key: made at different times?") from None
    if key.public.fingerprint != first.fingerprint:
        raise Rejected("owner_shares_differ", "the two shares give another key than they name")
    return key


def read_share(text: str) -> Share:
    """A share as it was printed, or typed again: blanks, empty lines and case do not matter.

    Raises:
        Rejected: `owner_share_malformed`, with the number of the line that does not fit.
    """
    lines = [" ".join(line.lower().split()) for line in text.splitlines() if line.strip()]
    title = _TITLE.match(lines[0]) if lines else None
    owner = _OWNER.match(lines[1]) if len(lines) > 1 else None
    if title is None or owner is None or lines[-1] != _END or len(text) > SHARE_BYTES_MAX:
        raise Rejected("owner_share_malformed", 'expected "tillstone owner share N of 2", the owner, lines, "end"')
    number = int(title[1])
    content = b"".join(_read_line(number, at + 1, line) for at, line in enumerate(lines[2:-1]))
    return Share(number=number, fingerprint=owner[1], content=content)


def _read_line(share: int, number: int, line: str) -> bytes:
    count, _, rest = line.partition(" ")
    *groups, check = rest.split(" ")
    found = _LINE.match(f"{count} {''.join(groups)} {check}")
    if found is None or int(found[1]) != number or len(found[2]) % 2:
        raise Rejected("owner_share_malformed", f"line {number} is not a line of a share")
    part = bytes.fromhex(found[2])
    if _check_digits(share, number, part) != found[3]:
        raise Rejected("owner_share_malformed", f"line {number} does not fit its check digits: read it again")
    return part


def _check_digits(share: int, number: int, part: bytes) -> str:
    """Two bytes of a hash over share, line and content; of random content it tells nothing."""
    return hashlib.sha256(f"{share}/{number}/".encode() + part).hexdigest()[:4]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
