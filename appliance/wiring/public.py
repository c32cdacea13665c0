"""Builds what leaves the box: the read-only door, credentials, scrub, followers, integrity, slips, backups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from appliance.anchor.gather import Gatherer
from appliance.api.integrity import Integrity, KeyHome, TokenFacts
from appliance.api.ledger_answers import LedgerAnswers
from appliance.api.local.door import Routes
from appliance.api.local.ledger import LedgerRoutes
from appliance.api.local.prune import PruneRoutes
from appliance.api.local.slip import SlipRoutes
from appliance.api.local.subjects import SubjectRoutes
from appliance.api.public.access import Access
from appliance.api.public.attestation import AttestationPages
from appliance.api.public.door import PublicDoor
from appliance.api.public.integrity import IntegrityPages
from appliance.api.public.proofs import ProofPages
from appliance.api.public.tiles import TilePages
from appliance.api.public.witnessed import WitnessedPages
from appliance.api.subject_answers import SubjectAnswers
from appliance.config.schema import Settings
from appliance.crypto import signature
from appliance.device.health import Check, Health
from appliance.device.scrubber import Scrubber
from appliance.identity.auditor_reads import AuditorReads
from appliance.identity.auditors import Auditors
from appliance.ledger.archive import Archive
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.ledger import Ledger
from appliance.ports.clock import Clock
from appliance.ports.signer import Signer
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.slip.paper_text import zone_of
from appliance.slip.reader import SlipReader
from appliance.slip.slip import ShopFace
from appliance.wiring.attestation import make_attestor
from appliance.wiring.backup import BackupParts
from appliance.wiring.followers import Followers, Outside
from appliance.wiring.printing import BoxPrinter
from appliance.wiring.pruning import make_pruning
from appliance.wiring.trust import Trust
from drivers.hsm.keys import STAYS_INSIDE

_ABOUT_TEST_HSM: Final = "A test token: its keys lie in files, and whoever owns this machine can copy them."
_ABOUT_HSM: Final = (
    "Keys were refused unless the token asserted these attributes; nobody here can prove what a token says of itself."
)


class PublicParts:
    """All that strangers, auditors and operators ask of the log."""

    def __init__(
        self,
        *,
        settings: Settings,
        trust: Trust,
        ledger: Ledger,
        archive: Archive,
        outside: Outside,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        quarantine: Callable[[str], None],
        on_erased: Callable[[], Awaitable[None]],
        tls_sha256: Callable[[], bytes],
    ) -> None:
        self._checkpoints = checkpoint_maker(trust, ledger, clock)
        self._archive = archive
        self._auditors = Auditors(ledger=ledger, clock=clock)
        self._reads = AuditorReads(ledger=ledger, clock=clock)
        self._scrubber = Scrubber(
            ledger=ledger, folder=settings.storage.path, clock=clock, log=log, on_corrupt=quarantine
        )
        self.followers = Followers(
            settings=settings,
            outside=outside,
            ledger=ledger,
            archive=archive,
            store_key=trust.store_key,
            checkpoints=self._checkpoints,
            quarantine=quarantine,
            clock=clock,
            metrics=metrics,
            log=log,
        )
        self._pruning = make_pruning(
            settings, ledger=ledger, archive=archive, outside=outside, followers=self.followers, clock=clock
        )
        self._backups = BackupParts(
            settings=settings,
            trust=trust,
            ledger=ledger,
            checkpoints=self._checkpoints,
            clock=clock,
            metrics=metrics,
            log=log,
        )
        self._access = Access(auditors=self._auditors, reads=self._reads, clock=clock)
        self._subjects = SubjectAnswers(ledger=ledger, archive=archive, clock=clock, on_erased=on_erased)
        self._slips = slip_reader(settings, ledger, archive)
        self._printer = None
        if settings.printer is not None:
            self._printer = BoxPrinter(
                settings.printer, reader=self._slips, ledger=ledger, clock=clock, metrics=metrics, log=log
            )
        self.attestor = make_attestor(settings, trust, ledger, clock, tls_sha256)
        self._attestation = AttestationPages(attestor=self.attestor, access=self._access, clock=clock)
        self._answers = LedgerAnswers(archive=archive, checkpoints=self._checkpoints)
        self._gatherer = Gatherer(
            ledger=ledger,
            archive=archive,
            checkpoints=self._checkpoints,
            store=outside.store,
            needed=settings.witnesses.needed,
        )
        self._integrity = Integrity(
            scrubber=self._scrubber,
            followers=self.followers.standings,
            token=token_facts(settings),
            keys=key_homes(settings, trust),
        )

    @property
    def checks(self) -> Sequence[Check]:
        """What health says of all this."""
        return [*self.followers.checks, self._backups.check, *self.device_checks]

    @property
    def device_checks(self) -> Sequence[Check]:
        """Of the printer, where there is one."""
        return [] if self._printer is None else [self._printer.check]

    async def begin(self, supervisor: Supervisor) -> None:
        """Read the tables, start the services."""
        await self._auditors.load()
        await self._scrubber.load()
        await self.followers.begin(supervisor)
        self._backups.begin(supervisor)
        if self._printer is not None:
            self._printer.begin(supervisor)
        supervisor.start("auditor reads", self._reads.run, restart=Restart.ON_CRASH)
        supervisor.start("scrub", self._scrubber.run, restart=Restart.ON_CRASH)
        supervisor.start("scrub time", self._scrubber.keep_time, restart=Restart.ON_CRASH)

    async def end(self) -> None:
        """An orderly stop: what auditors read in the last minute goes into the log."""
        await self._reads.flush()
        if self._printer is not None:
            await self._printer.end()

    def door(self, *, trust: str, metrics: Metrics, health: Callable[[], Health]) -> PublicDoor:
        """The read-only door."""
        return PublicDoor(
            checkpoints=self._checkpoints,
            trust=trust,
            metrics=metrics,
            health=health,
            pages=(
                TilePages(archive=self._archive, access=self._access),
                ProofPages(answers=self._answers, access=self._access),
                WitnessedPages(newest=self.followers.witnessed, archive=self._archive, access=self._access),
                IntegrityPages(integrity=self._integrity, access=self._access),
                self._attestation,
            ),
        )

    def local_routes(self) -> Sequence[Routes]:
        """What operators ask of all this, for the local door: the log, a person, pruning, slips, backups."""
        ledger = LedgerRoutes(
            answers=self._answers, gatherer=self._gatherer, integrity=self._integrity, auditors=self._auditors
        )
        slips = SlipRoutes(self._slips, None if self._printer is None else self._printer.printing)
        return ledger, SubjectRoutes(self._subjects), PruneRoutes(self._pruning), slips, self._backups.routes()


def slip_reader(settings: Settings, ledger: Ledger, archive: Archive) -> SlipReader:
    """Payments as paper has them, with this shop's face."""
    shop = settings.shop
    return SlipReader(
        ledger=ledger,
        archive=archive,
        shop=ShopFace(name=shop.name, address=shop.address, zone=zone_of(shop.timezone)),
        page_url=settings.slip.page_url,
    )


def checkpoint_maker(trust: Trust, ledger: Ledger, clock: Clock) -> CheckpointMaker | None:
    """None where the log's keys are of before its token, which has no Ed25519, got a key of checkpoints."""
    if trust.note is None:
        return None
    return CheckpointMaker(
        origin=trust.statement.origin,
        note=trust.note,
        post_quantum=trust.signers.post_quantum,
        newest=lambda: ledger.head,
        clock=clock,
    )


def token_facts(settings: Settings) -> TokenFacts:
    """The HSM, and what is not claimed about it."""
    is_test_token = "softhsm" in str(settings.hsm.module_path).lower()
    return TokenFacts(
        module=settings.hsm.module_path.name,
        label=settings.hsm.token_label,
        is_test_token=is_test_token,
        sentence=_ABOUT_TEST_HSM if is_test_token else _ABOUT_HSM,
    )


def key_homes(settings: Settings, trust: Trust) -> tuple[KeyHome, ...]:
    """The log's keys and the key over secrets. What is asserted was asserted when the key was opened, or it was not."""
    kek = settings.hsm.kek
    note = trust.note
    return (
        _key_home("log_classical", trust.signers.classical, "token"),
        _key_home("log_post_quantum", trust.signers.post_quantum, trust.post_quantum_home),
        *(() if note is None or note is trust.signers.classical else (_key_home("log_note", note, "envelope"),)),
        KeyHome(
            purpose="kek",
            algorithm="AES-256-GCM" if kek.public_key_sha256 is None else "ECDH P-384",
            key_id=kek.public_key_sha256 or kek.id,
            public_key="",
            home="token",
            asserted=_asserted(),
        ),
    )


def _key_home(purpose: str, signer: Signer, home: str) -> KeyHome:
    return KeyHome(
        purpose=purpose,
        algorithm=signature.algorithm(signer.algorithm).name,
        key_id=signer.key_id.hex(),
        public_key=signer.public_key.hex(),
        home=home,
        asserted=_asserted() if home == "token" else (),
    )


def _asserted() -> tuple[str, ...]:
    return tuple([f"CKA_{attribute.name}={str(value).lower()}" for attribute, value in STAYS_INSIDE.items()])
