"""Every projection of the log that a box keeps."""

from __future__ import annotations

from appliance.device.epochs import EpochProjection
from appliance.device.life import DeviceStateProjection
from appliance.device.scrubber import VerificationProjection
from appliance.device.trusted_time import ClockMarkProjection
from appliance.device.update_log import UpdateProjection
from appliance.identity.auditors import AuditorProjection
from appliance.identity.terminals import TerminalProjection
from appliance.ledger.projection import Projection
from appliance.payment.contradictions import ContradictionProjection
from appliance.payment.history import HistoryProjection
from appliance.payment.offline_projection import OfflineProjection
from appliance.payment.projection import PaymentProjection
from appliance.payment.reconcile_projection import ReconcileProjection
from appliance.payment.recovery import RecoveredProjection
from appliance.payment.screening.records import ScreeningProjection
from appliance.payment.vault.rows import TokenProjection
from appliance.payment.voucher_rows import VoucherProjection
from appliance.till.projection import TillProjection


def projections() -> tuple[Projection, ...]:
    """All of them; one that is added is built from the log at the next start."""
    return (
        PaymentProjection(),
        OfflineProjection(),
        VoucherProjection(),
        TokenProjection(),
        RecoveredProjection(),
        HistoryProjection(),
        ContradictionProjection(),
        ScreeningProjection(),
        TillProjection(),
        ReconcileProjection(),
        TerminalProjection(),
        AuditorProjection(),
        EpochProjection(),
        DeviceStateProjection(),
        ClockMarkProjection(),
        UpdateProjection(),
        VerificationProjection(),
    )
