"""Errors become problems: each kind has its status, and nothing of ours leaks."""

from __future__ import annotations

from appliance.api.problem import opaque_problem, problem_of, status_of
from appliance.model.errors import Bug, Corrupt, OutcomeUnknown, Rejected, TillstoneError, Unavailable


def test_each_kind_of_error_has_its_status() -> None:
    errors: list[TillstoneError] = [
        Rejected("claims_invalid", ""),
        Rejected("terminal_unknown", ""),
        Rejected("wrong_audience", ""),
        Rejected("payment_unknown", ""),
        Rejected("key_reused", ""),
        Rejected("too_large", ""),
        Rejected("media_type_unsupported", ""),
        Rejected("tax_wrong", ""),
        Rejected("too_many_streams", ""),
        Unavailable("quarantined", ""),
        OutcomeUnknown("commit_failed", ""),
        Corrupt("entry_missing", ""),
        Bug("invariant_broken", ""),
    ]
    assert [status_of(error) for error in errors[:-2]] == [400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 503]
    assert [problem_of(error, 0).status for error in errors[-2:]] == [503, 500]


def test_disorder_of_the_records_is_not_told_to_a_till() -> None:
    problem = problem_of(Corrupt("entry_missing", "entry 17 of the customer"), 5)
    assert (problem.code, problem.now_ms) == ("box_stopped", 5)
    assert "17" not in problem.detail


def test_own_error_says_where_to_point_and_nothing_else() -> None:
    problem = opaque_problem("0123456789abcdef", 5)
    assert (problem.status, problem.code, problem.event_id) == (500, "internal", "0123456789abcdef")
