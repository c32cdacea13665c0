"""Judges an attestation: is it this owner's box, is it said now, and does it run what the owner released?

Owns the order of the questions. Must never believe a member of the answer that nothing signs, and needs no TPM library.

* Every PCR of the quote is either compared with the release's values, or each of its events is one that it knows.
* An event's type and text are not looked at: a log is true as far as its digests replay to what the TPM signed.

Source: docs/formats/attestation.md, "How it is judged".
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.crypto.owner import SignedStatement
from appliance.evidence.release import RELEASE, ReleaseStatement, read_release_statement
from appliance.ledger.attestation import (
    CERTIFICATE,
    AttestationStatement,
    qualifying_data,
    read_attestation_statement,
)
from appliance.ledger.genesis import LogId
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.wire.attestation import Attestation
from drivers.tpm.event_log import EventLogRefused, parse_firmware_log, parse_userspace_log
from drivers.tpm.quote_check import (
    BootCounts,
    QuoteExpectation,
    QuoteRefused,
    VerifiedQuote,
    object_name,
    verify_quote,
)

FIRMWARE_PCRS: Final = range(8)
"""What nobody but the firmware extends; systemd's log tells of the others."""
BOX, KEY, DOOR, QUOTE, EVENTS, IMAGE = "box", "attestation key", "door", "quote", "event log", "release"
STEPS: Final = (BOX, KEY, DOOR, QUOTE, EVENTS, IMAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the asker knows.

    Attributes:
        nonce: what was sent; 32 bytes.
        origin: the log whose box must speak; None: one of any log in the trust file.
        tls_sha256: of the certificate that the terminals' door shows; None where nobody looked.
        releases: what may run; none: only who speaks is proven, not what it runs.
        counts: by the name of the attestation key in hexadecimal, as of the last time.
    """

    trust: Trust
    nonce: bytes
    origin: str | None = None
    tls_sha256: bytes | None = None
    releases: Sequence[ReleaseStatement] = ()
    counts: Mapping[str, BootCounts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What was proven.

    Attributes:
        release: what runs there; None where no release was demanded.
    """

    origin: str
    key_name: str
    statement: AttestationStatement
    quote: VerifiedQuote
    pcr_values: Mapping[int, bytes]
    release: ReleaseStatement | None


class Steps:
    """The questions: which were answered, which could not be asked and why, and which one is being asked."""

    def __init__(self) -> None:
        self.now = STEPS[0]
        self.passed: list[tuple[str, str]] = []
        self.missing: dict[str, str] = {}

    def pass_on(self, shown: str) -> None:
        """The present question is answered; the next one begins."""
        self.passed.append((self.now, shown))
        self._next()

    def leave_out(self, reason: str) -> None:
        """The present question cannot be asked."""
        self.missing[self.now] = reason
        self._next()

    def _next(self) -> None:
        self.now = STEPS[min(STEPS.index(self.now) + 1, len(STEPS) - 1)]


def read_release(file: bytes, trust: Trust) -> ReleaseStatement:
    """A release manifest, if the owner signed it. Raises Rejected as `SignedStatement.verify`, `release_malformed`."""
    signed = SignedStatement.decode(file)
    signed.verify(trust.owner, RELEASE)
    return read_release_statement(signed.statement)


def judge(said: Attestation, demand: Demand, steps: Steps) -> Attested:
    """Believe the attestation, or say which of the questions it fails.

    Raises:
        Rejected: `attestation_log_unknown`, `attestation_origin_wrong`, `attestation_not_certified`,
            `attestation_of_another_box`, `attestation_door_wrong`, `attestation_nonce_wrong`, `quote_<aspect>` of
            `QuoteRefused`, `event_log_malformed`, `event_log_differs`, `event_log_missing`, `event_unknown`,
            `release_unknown`, `release_pcrs_differ`, `release_value_wrong`, and the codes of owner's statements.
    """
    _require_box(said, demand)
    steps.pass_on(f"{said.origin}, whose log the owner signed")
    statement = _certified(said, demand.trust)
    steps.pass_on(f"{_maker_words(statement)}; the owner certified its key for this log")
    if demand.tls_sha256 is None:
        steps.leave_out("nobody looked which certificate the terminals' door shows")
    else:
        _require(
            said.tls == demand.tls_sha256, "attestation_door_wrong", "the quote speaks for a box with another door"
        )
        steps.pass_on("the terminals' door shows the certificate that the quote is bound to")
    release = _release_of(said, demand.releases)
    values = {each.pcr: each.value for each in said.pcrs}
    key_name = object_name(said.attestation_key)
    quote = _quoted(said, demand, values, release, key_name)
    covered = ", ".join(map(str, values))
    steps.pass_on(f"fresh, over PCRs {covered}; the TPM was switched on {quote.counts.reset} times")
    events: Mapping[int, Sequence[bytes]] = {}
    if said.event_log is None:
        steps.leave_out(said.event_log_absent or "the box gave none, and no reason")
    else:
        events = _replayed(said.event_log, said.userspace_log, values)
        count = sum(map(len, events.values()))
        steps.pass_on(f"{count} measurements lead to PCRs {', '.join(map(str, events))}")
    if release is None:
        steps.leave_out("no release manifest was given: who speaks is proven, and not what it runs")
    else:
        _require_release(release, values, events)
        steps.pass_on(f"every quoted PCR holds what {release.image} leaves there")
    return Attested(
        origin=said.origin,
        key_name=key_name.hex(),
        statement=statement,
        quote=quote,
        pcr_values=values,
        release=release,
    )


def quoted_nonce(said: Attestation) -> bytes:
    """What the TPM was given as the quote's nonce, if the attestation is what it says."""
    return qualifying_data(
        nonce=said.nonce, log_id=LogId(said.log), tls_sha256=said.tls, version=said.version, image=said.image
    )


def _require_box(said: Attestation, demand: Demand) -> None:
    known = demand.trust.logs.get(LogId(said.log))
    if known is None:
        raise Rejected("attestation_log_unknown", "the box writes a log that the trust file does not name")
    expected = known.origin if demand.origin is None else demand.origin
    if (said.origin, known.origin) != (expected, expected):
        raise Rejected("attestation_origin_wrong", f"expected {expected}, saw {said.origin[:100]!r}")


def _certified(said: Attestation, trust: Trust) -> AttestationStatement:
    if said.certificate is None:
        raise Rejected("attestation_not_certified", "the owner has not certified this box's attestation key yet")
    signed = SignedStatement.decode(said.certificate)
    signed.verify(trust.owner, CERTIFICATE)
    statement = read_attestation_statement(signed.statement)
    statement.require_of(LogId(said.log), said.attestation_key)
    _require(
        said.endorsement_certificate == statement.endorsement_certificate,
        "attestation_of_another_box",
        "the endorsement certificate is not the one that the owner saw",
    )
    return statement


def _maker_words(statement: AttestationStatement) -> str:
    if statement.maker is None:
        return "a TPM that nobody followed to its maker"
    return f"a TPM of the maker with root {statement.maker.hex()[:16]}"


def _release_of(said: Attestation, releases: Sequence[ReleaseStatement]) -> ReleaseStatement | None:
    """The one that the box says it runs; whether it does, the quote tells."""
    if not releases:
        return None
    found = [release for release in releases if release.image == said.image]
    if not found:
        wanted = " or ".join(release.image for release in releases)
        raise Rejected("release_unknown", f"expected {wanted}, the box says {said.image[:100]!r}")
    return max(found, key=lambda release: release.created_ms)


def _quoted(
    said: Attestation,
    demand: Demand,
    values: Mapping[int, bytes],
    release: ReleaseStatement | None,
    key_name: bytes,
) -> VerifiedQuote:
    if release is not None:
        _require(
            tuple(sorted(values)) == release.pcrs,
            "release_pcrs_differ",
            f"expected a quote over PCRs {list(release.pcrs)}, saw {sorted(values)}",
        )
    _require(
        hmac.compare_digest(said.nonce, demand.nonce),
        "attestation_nonce_wrong",
        "it answers another question than ours",
    )
    expected = QuoteExpectation(
        ak_name=key_name,
        nonce=quoted_nonce(said),
        pcr_values=values,
        previous=demand.counts.get(key_name.hex()),
        firmware_allowed=None if release is None else frozenset(release.firmware),
    )
    try:
        return verify_quote(said.quote, said.signature, said.attestation_key, expected)
    except QuoteRefused as refusal:
        raise Rejected(f"quote_{refusal.aspect}", str(refusal)) from refusal


def _replayed(firmware: bytes, userspace: bytes | None, values: Mapping[int, bytes]) -> Mapping[int, Sequence[bytes]]:
    """Digests by PCR, of the machine's logs, if they lead to what was quoted; without PCRs that no log tells of."""
    told = [pcr for pcr in sorted(values) if userspace is not None or pcr in FIRMWARE_PCRS]
    try:
        log = parse_firmware_log(firmware)
        log = log if userspace is None else log.then(parse_userspace_log(userspace))
    except EventLogRefused as refusal:
        raise Rejected("event_log_malformed", str(refusal)) from refusal
    replayed = log.replay(told)
    wrong = [pcr for pcr in told if replayed[pcr] != values[pcr]]
    _require(not wrong, "event_log_differs", f"the log does not lead to the quoted values of PCRs {wrong}")
    return {pcr: log.digests(pcr) for pcr in told}


def _require_release(
    release: ReleaseStatement, values: Mapping[int, bytes], events: Mapping[int, Sequence[bytes]]
) -> None:
    for pcr, allowed in release.values.items():
        _require(values[pcr] in allowed, "release_value_wrong", f"PCR {pcr} holds what {release.image} never leaves")
    for pcr, known in release.events.items():
        _require(
            pcr in events, "event_log_missing", f"the release knows events of PCR {pcr}, the box shows no log of it"
        )
        unknown = [digest for digest in events[pcr] if digest not in known]
        _require(not unknown, "event_unknown", f"{len(unknown)} events of PCR {pcr} are not known to the release")


def _require(condition: bool, code: str, sentence: str) -> None:
    if not condition:
        raise Rejected(code, sentence)
