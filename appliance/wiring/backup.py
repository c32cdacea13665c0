"""Builds backups: of what one is made, the folder into which they go by themselves, and what health says."""

from __future__ import annotations

from pathlib import Path

from appliance.api.local.backup import BackupRoutes
from appliance.config.backup import Backups
from appliance.config.portable import portable_files, portable_table
from appliance.config.schema import Settings
from appliance.crypto.hpke import read_recipient
from appliance.device.backup import Backup, BackupSource
from appliance.device.backup_keeper import BackupKeeper, KeptBackup
from appliance.device.health import Finding, Level
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.ledger import Ledger
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.trust import Trust


def make_backup(
    settings: Settings, trust: Trust, ledger: Ledger, checkpoints: CheckpointMaker | None, clock: Clock
) -> Backup | None:
    """Sealed to the recovery recipient of the settings; None where they name none.

    Raises:
        Rejected: `recipient_key_malformed`.
    """
    if settings.backup is None:
        return None
    source = BackupSource(
        folder=settings.storage.path,
        files=lambda: portable_files(settings),
        settings=portable_table(settings),
        store_key=trust.store_key,
        cipher=trust.cipher,
        checkpoint=None if checkpoints is None else checkpoints.now,
    )
    recipient = read_recipient(settings.backup.recipient_path.read_bytes())
    return Backup(ledger=ledger, source=source, recipient=recipient, clock=clock)


class BackupParts:
    """Backups of a box; none of it does anything where they are not set up."""

    def __init__(
        self,
        *,
        settings: Settings,
        trust: Trust,
        ledger: Ledger,
        checkpoints: CheckpointMaker | None,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._backup = make_backup(settings, trust, ledger, checkpoints, clock)
        self._started_ms = clock.now_ms()
        self._keeper = None
        if self._backup is not None and settings.backup is not None and settings.backup.folder is not None:
            self._keeper = BackupKeeper(
                backup=self._backup,
                folder=settings.backup.folder,
                origin=ledger.statement.origin,
                every_ms=settings.backup.every_ms,
                keep=settings.backup.keep,
                clock=clock,
                metrics=metrics,
                log=log,
            )

    def begin(self, supervisor: Supervisor) -> None:
        """Start what makes them by itself."""
        if self._keeper is not None:
            supervisor.start("backups", self._keeper.run, restart=Restart.ON_CRASH)

    def routes(self) -> BackupRoutes:
        """For the local door."""
        return BackupRoutes(self._backup)

    def check(self) -> Finding:
        """Whether a new box could be made of this one."""
        backup, keeper = self._settings.backup, self._keeper
        if backup is None:
            return Finding(check="backup", level=Level.OK, sentence="No backups are set up: a lost box is lost.")
        if keeper is None:
            return Finding(check="backup", level=Level.OK, sentence="Backups are made when somebody asks for one.")
        return backup_finding(
            backup,
            newest=keeper.newest,
            trouble=keeper.trouble,
            now_ms=self._clock.now_ms(),
            started_ms=self._started_ms,
        )


def backup_finding(
    settings: Backups, *, newest: KeptBackup | None, trouble: str | None, now_ms: int, started_ms: int
) -> Finding:
    """How old the newest is; a box that was just switched on gets its time to make one."""
    since_ms = max(0, now_ms - (started_ms if newest is None else newest.made_ms))
    sentence = "There is no backup." if newest is None else f"The newest backup is {_ago(since_ms)} old."
    if trouble is None and (newest is not None or since_ms < HOUR_MS) and since_ms < settings.late_after_ms:
        return Finding(check="backup", level=Level.OK, sentence=sentence)
    why = "" if trouble is None else f" The last try failed: {trouble}."
    return Finding(
        check="backup",
        level=Level.COPING,
        sentence=f"{sentence}{why} We sell on.",
        next_step=f"See that {_shown(settings.folder)} is there and has room; it is tried again by itself.",
    )


def _ago(since_ms: int) -> str:
    hours = since_ms // HOUR_MS
    return f"{hours} h" if since_ms < 2 * DAY_MS else f"{hours // 24} days"


def _shown(folder: Path | None) -> str:
    return "the folder of backups" if folder is None else str(folder)
