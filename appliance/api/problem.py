"""Turns errors into refusals (RFC 9457): the only place that knows status codes.

An error of a kind of ours keeps its stable code; anything else becomes an opaque 500 with an event id, whose story
is in the log and nowhere else.
"""

from __future__ import annotations

from typing import Final

from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, TillstoneError, Unavailable
from appliance.wire.answers import Problem

_STATUS: Final[dict[str, int]] = {
    "auditor_unknown": 401,
    "signature_wrong": 401,
    "terminal_unknown": 401,
    "terminal_mismatch": 401,
    "auditor_expired": 403,
    "auditor_revoked": 403,
    "terminal_revoked": 403,
    "wrong_audience": 403,
    "pairing_refused": 403,
    "payment_unknown": 404,
    "drawer_short": 409,
    "voucher_unknown": 404,
    "token_unknown": 404,
    "token_expired": 409,
    "token_forgotten": 409,
    "token_erased": 409,
    "token_purpose_wrong": 409,
    "token_of_another_provider": 409,
    "token_unreadable": 409,
    "voucher_spent": 409,
    "voucher_short": 409,
    "voucher_expired": 409,
    "voucher_currency": 409,
    "voucher_void": 409,
    "voucher_not_paid": 409,
    "vouchers_sold": 409,
    "period_empty": 409,
    "day_empty": 409,
    "break_unknown": 404,
    "subject_unknown": 404,
    "snapshot_needed": 409,
    "snapshot_not_cosigned": 409,
    "snapshot_missing": 409,
    "snapshot_damaged": 409,
    "nothing_to_prune": 409,
    "entry_pruned": 410,
    "entry_unknown": 404,
    "size_unknown": 404,
    "tile_unknown": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "already_undone": 409,
    "subject_erased_meanwhile": 409,
    "key_reused": 409,
    "payment_cancelled": 409,
    "retry_not_needed": 409,
    "retry_exists": 409,
    "payment_complete": 409,
    "payment_open": 409,
    "payment_took_no_money": 409,
    "payment_not_captured": 409,
    "payment_not_confirmed": 409,
    "payment_not_held": 409,
    "payment_of_another_terminal": 409,
    "authorisation_expired": 409,
    "capture_above_authorisation": 409,
    "capture_below_total": 409,
    "refund_above_left": 409,
    "line_already_refunded": 409,
    "refund_above_lines": 409,
    "part_above_remaining": 409,
    "sale_closed": 409,
    "sale_not_complete": 409,
    "sale_not_in_parts": 409,
    "too_many_parts": 409,
    "retry_of_another_sale": 409,
    "sale_pruned": 409,
    "too_large": 413,
    "cbor_too_large": 413,
    "json_too_large": 413,
    "media_type_unsupported": 415,
    "head_malformed": 400,
    "head_too_large": 431,
    "too_many_reads": 429,
    "head_evidence_needed": 428,
    "too_many_streams": 429,
    "verified_just_now": 429,
    "webhook_forged": 401,
}
_UNREADABLE: Final = ("cbor_", "json_", "cose_", "jws_", "claims_", "body_", "key_", "base64url_", "public_key_")
"""Codes that begin so are about the request's form: 400. What is left is about the sale: 422."""
_FORM: Final = frozenset(
    {
        "algorithm_key_mismatch",
        "algorithm_unsupported",
        "clock_skew",
        "question_malformed",
        "subject_malformed",
        "prune_too_young",
        "tile_path_malformed",
        "webhook_late",
        "webhook_malformed",
        "wrong_verb",
    }
)


def status_of(error: TillstoneError) -> int:
    """The status code of an error of ours."""
    if isinstance(error, Rejected):
        if error.code in _STATUS:
            return _STATUS[error.code]
        return 400 if error.code in _FORM or error.code.startswith(_UNREADABLE) else 422
    if isinstance(error, (Unavailable, OutcomeUnknown)):
        return 503
    return 500


def problem_of(error: TillstoneError, now_ms: int) -> Problem:
    """What the caller is told. `OutcomeUnknown` says so: the caller asks `status` with the same key."""
    if isinstance(error, Corrupt):
        return Problem(
            type="about:blank",
            title="The box stops",
            status=503,
            code="box_stopped",
            detail="the box found its own records in disorder and takes nothing more; a person must look",
            now_ms=now_ms,
        )
    status = status_of(error)
    return Problem(
        type="about:blank",
        title=_title(error),
        status=status,
        code=error.code,
        detail=error.detail,
        now_ms=now_ms,
    )


def opaque_problem(event_id: str, now_ms: int) -> Problem:
    """An error that is ours to mend; the caller learns only where to point us."""
    return Problem(
        type="about:blank",
        title="An error of the box",
        status=500,
        code="internal",
        detail="the box made an error; the result is not known: ask status with the same key",
        now_ms=now_ms,
        event_id=event_id,
    )


def _title(error: TillstoneError) -> str:
    if isinstance(error, Rejected):
        return "Refused"
    return "The result is not known yet" if isinstance(error, OutcomeUnknown) else "Not now"
