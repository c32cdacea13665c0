"""Figures have names, units and bounds."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from appliance.model.offline import Exposure
from appliance.runtime.metrics import CHILDREN_MAX, Metrics


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Values by their label values, in the order of the labels' names."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_each_request_counts_under_its_verb_and_code() -> None:
    metrics = Metrics()
    metrics.request("payment", "ok")
    metrics.request("payment", "ok")
    metrics.request("refund", "amount_zero")
    assert samples(metrics, "tillstone_requests_total") == {("ok", "payment"): 2.0, ("amount_zero", "refund"): 1.0}


def test_invented_codes_cannot_grow_a_series_without_bound() -> None:
    metrics = Metrics()
    for index in range(3 * CHILDREN_MAX):
        metrics.refusal(f"code_{index}")
    metrics.refusal('evil"} 1\n')
    found = samples(metrics, "tillstone_refusals_total")
    assert len(found) == CHILDREN_MAX + 1
    assert found[("other",)] == 2 * CHILDREN_MAX + 1


def test_levels_and_times_are_exposed() -> None:
    metrics = Metrics()
    metrics.stage_took("screen", 0.003)
    metrics.operations_open("unknown", 3)
    metrics.device_up("hsm", True)
    metrics.device_up("hsm", False)
    metrics.ledger_queue_depth.set(7)
    assert samples(metrics, "tillstone_stage_seconds_count") == {("screen",): 1.0}
    assert samples(metrics, "tillstone_operations_open") == {("unknown",): 3.0}
    assert samples(metrics, "tillstone_device_up") == {("hsm",): 0.0}
    assert samples(metrics, "tillstone_ledger_queue_depth") == {(): 7.0}


def test_what_hangs_on_banks_is_exposed() -> None:
    metrics = Metrics()
    metrics.offline(Exposure(accepted_minor=900, accepted_count=2, reserved_minor=50, oldest_ms=4_000), now_ms=9_000)
    assert samples(metrics, "tillstone_offline_minor") == {("accepted",): 900.0, ("reserved",): 50.0}
    assert samples(metrics, "tillstone_offline_payments") == {(): 2.0}
    assert samples(metrics, "tillstone_offline_oldest_seconds") == {(): 5.0}


def test_memory_is_read_when_asked() -> None:
    assert samples(Metrics(), "tillstone_resident_bytes")[()] > 10 * 2**20


def test_two_registries_do_not_meet_and_the_global_one_stays_empty_of_ours() -> None:
    first, second = Metrics(), Metrics()
    first.clock_steps.inc()
    assert samples(second, "tillstone_clock_steps_total") == {(): 0.0}
    assert not any(family.name.startswith("tillstone") for family in REGISTRY.collect())


def test_every_metric_is_fed_by_the_process() -> None:
    appliance = Path(__file__).parents[3] / "appliance"
    sources = [file.read_text() for file in appliance.rglob("*.py") if file.name != "metrics.py"]
    fed = {name for name in (*vars(Metrics()), *vars(Metrics)) if not name.startswith("_")} - {"render"}
    assert fed, "the names were found"
    assert {name for name in fed if not any(f"metrics.{name}" in source for source in sources)} == set()


def test_operating_page_names_every_metric() -> None:
    page = (Path(__file__).parents[3] / "appliance/docs/operating.md").read_text()
    families = text_string_to_metric_families(Metrics().render().decode())
    missing = {family.name for family in families if f"`{family.name}" not in page}
    assert missing == set()
