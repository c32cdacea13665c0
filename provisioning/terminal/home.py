"""The folder in which a terminal keeps what must outlive it: key, profile, trust, memory and stored sales.

Owns the names in that folder and their formats. Its rules:
- the profile is written once, by pairing; the memory after each verified receipt and each lesson about the clock;
- every write is whole and durable (`durable.py`); nothing in here is readable by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.model.errors import Rejected
from appliance.wire.requests import HeadBody, Seen, Wire
from provisioning.terminal.durable import write_durably

AUTHORITY_FILE: Final = "authority.pem"


class Profile(Wire, frozen=True, kw_only=True):
    """Which box this terminal speaks to, and as whom.

    Attributes:
        certificate_sha256: pin of the box's TLS certificate (DER), learnt at pairing. Without it `ca_file` is used.
        ca_file: PEM file of the authority that signs the box's certificates; relative to the folder.
    """

    url: str
    terminal: str
    audience: str
    currency: str
    certificate_sha256: str | None = None
    ca_file: str | None = None


class Memory(Wire, frozen=True, kw_only=True):
    """What the terminal learnt: the highest verified head with its signatures, how far its clock is from the box's."""

    seen: Seen | None = None
    proof: HeadBody | None = None
    clock_offset_ms: int = 0


class Believed(Wire, frozen=True, kw_only=True):
    """The last time that the box proved what it runs: by which key, asked when, after how many starts of its TPM."""

    key: str
    at_ms: int
    reset: int
    restart: int


class Attesting(Wire, frozen=True, kw_only=True):
    """What this terminal demands of its box before it sends a payment.

    Attributes:
        age_max_ms: how old a proof may be; 0 asks before each payment.
        releases: what may run, as the owner signed it; none: only who speaks has to be proven.
    """

    believed: Believed | None = None
    releases: tuple[bytes, ...] = ()
    age_max_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalHome:
    """The files of one terminal."""

    folder: Path

    @property
    def key_file(self) -> Path:
        return self.folder / "key.pem"

    def keep_authority(self, pem: bytes) -> None:
        """From here on the box is who holds the key of this authority."""
        write_durably(self.folder / AUTHORITY_FILE, pem)
        self.keep_profile(msgspec.structs.replace(self.profile(), ca_file=AUTHORITY_FILE, certificate_sha256=None))

    @property
    def trust_file(self) -> Path:
        return self.folder / "trust.json"

    @property
    def queue_file(self) -> Path:
        return self.folder / "queue.sqlite"

    @property
    def escrow_folder(self) -> Path:
        return self.folder / "escrow"

    def profile(self) -> Profile:
        """Raises Rejected `profile_missing` or `profile_malformed`."""
        try:
            return msgspec.json.decode((self.folder / "terminal.json").read_bytes(), type=Profile)
        except FileNotFoundError:
            raise Rejected("profile_missing", f"{self.folder} holds no terminal.json: pair first") from None
        except msgspec.MsgspecError as cause:
            raise Rejected("profile_malformed", f"{self.folder / 'terminal.json'}: {cause}") from cause

    def keep_profile(self, profile: Profile) -> None:
        write_durably(self.folder / "terminal.json", msgspec.json.encode(profile))

    def trust(self) -> bytes:
        """trust.json as it came with pairing. Raises Rejected `trust_missing`."""
        try:
            return self.trust_file.read_bytes()
        except FileNotFoundError:
            raise Rejected("trust_missing", f"{self.folder} holds no trust.json: pair first") from None

    def keep_trust(self, trust: str) -> None:
        write_durably(self.trust_file, trust.encode("utf-8"))

    def memory(self) -> Memory:
        """What was kept last; a new terminal remembers nothing. Raises Rejected `memory_malformed`."""
        try:
            return msgspec.json.decode((self.folder / "memory.json").read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except msgspec.MsgspecError as cause:
            # Starting with no memory would hide a log that was rolled back: somebody must look.
            raise Rejected("memory_malformed", f"{self.folder / 'memory.json'}: {cause}") from cause

    @property
    def attesting_file(self) -> Path:
        return self.folder / "attestation.json"

    def attesting(self) -> Attesting | None:
        """None where the terminal demands nothing. Raises Rejected `attesting_malformed`."""
        try:
            return msgspec.json.decode(self.attesting_file.read_bytes(), type=Attesting)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as cause:
            # Demanding nothing instead would be the one thing that an attacker wants of it.
            raise Rejected("attesting_malformed", f"{self.attesting_file}: {cause}") from cause

    def keep_attesting(self, attesting: Attesting) -> None:
        write_durably(self.attesting_file, msgspec.json.encode(attesting))

    def keep_memory(self, memory: Memory) -> None:
        write_durably(self.folder / "memory.json", msgspec.json.encode(memory))
