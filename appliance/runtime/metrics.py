"""Every figure the process counts about itself, in a registry of its own.

Label values come from closed sets or are bounded here: a stranger must not be able to grow a series by inventing codes.
Children are looked up once and kept (a lookup costs more than the increment). Metrics never drive a decision.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.model.device_state import DeviceState
from appliance.model.offline import Exposure

M = TypeVar("M", bound=MetricWrapperBase)

CHILDREN_MAX: Final = 200
"""Label combinations of one metric; what comes later is counted under `other`."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LABEL: Final = re.compile(r"\A[a-z0-9_.-]{1,64}\Z")
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """One attribute per plain metric, one method per metric with labels."""

    def __init__(self) -> None:
        # Creation times double the series and nobody reads them; the library has one switch for the whole process.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it unannotated
        registry = self._registry = CollectorRegistry()
        self._requests = _counter(
            "tillstone_requests", "Requests answered, by verb and code.", ("verb", "code"), registry
        )
        self._refusals = _counter("tillstone_refusals", "Requests refused, by problem code.", ("code",), registry)
        self._connections = _Labelled(
            Gauge("tillstone_connections", "Open connections, by door.", ("door",), registry=registry)
        )
        self._stage = _Timings("tillstone_stage_seconds", "Time in a stage.", "stage", registry)
        self._operations = _Labelled(
            Gauge("tillstone_operations_open", "Open operations, by state.", ("state",), registry=registry)
        )
        self._webhooks = _counter("tillstone_webhooks", "Webhooks, by outcome.", ("provider", "outcome"), registry)
        self._screened = _counter("tillstone_screened", "Verdicts of screening.", ("verdict", "rule"), registry)
        self._device_up = _Labelled(
            Gauge("tillstone_device_up", "1 while the device answers, else 0.", ("device",), registry=registry)
        )
        self._pages = _Labelled(Counter("tillstone_pages", "Pages, by their end.", ("result",), registry=registry))
        self._follower_lag = _Labelled(
            Gauge("tillstone_follower_lag_entries", "Entries not dealt with.", ("follower",), registry=registry)
        )
        self._follower_success = _Labelled(
            Gauge(
                "tillstone_follower_success_timestamp_seconds",
                "Unix time at which a step last worked; 0 for never.",
                ("follower",),
                registry=registry,
            )
        )
        self._follower_late = _Labelled(
            Gauge("tillstone_follower_late", "1 when somebody must look, else 0.", ("follower",), registry=registry)
        )
        self._follower_failures = _Labelled(
            Counter("tillstone_follower_failures", "Steps that failed.", ("follower",), registry=registry)
        )
        self._breaks = _Labelled(
            Gauge(
                "tillstone_reconcile_breaks",
                "Differences from a provider's statement that are open.",
                ("provider", "type"),
                registry=registry,
            )
        )
        self.witnesses_disagreeing = Gauge("tillstone_witnesses_disagreeing", "Claim without proof.", registry=registry)
        self.ledger_queue_depth = Gauge("tillstone_ledger_queue_depth", "Appends that wait.", registry=registry)
        self.ledger_entries = Gauge("tillstone_ledger_entries", "Entries in the log.", registry=registry)
        self.unsigned_entries = Gauge("tillstone_unsigned_entries", "Entries no signed head covers.", registry=registry)
        self.free_bytes = Gauge("tillstone_free_bytes", "Free space where the log lives.", registry=registry)
        self.clock_steps = Counter("tillstone_clock_steps", "Steps of the wall clock.", registry=registry)
        self._state = Gauge("tillstone_device_state", "1: its state.", ("state",), registry=registry)
        self.terminals = Gauge("tillstone_terminals", "Terminals that may sell.", registry=registry)
        self.vouchers_owed = Gauge("tillstone_vouchers_owed_minor", "Worth of vouchers not spent.", registry=registry)
        self._backups = _Backups(registry)
        self._offline = _OfflineGauges(registry)
        self.connections_displaced = Counter(
            "tillstone_connections_displaced", "Idle connections closed to make room.", registry=registry
        )
        self.event_streams = Gauge("tillstone_event_streams", "Event streams (SSE) that are open.", registry=registry)
        self.loop_blocked = Counter(
            "tillstone_loop_blocked", "Times the event loop stood still for over 50 ms.", registry=registry
        )
        self.loop_lag_seconds = Gauge(
            "tillstone_loop_lag_seconds", "Latest lateness of the event loop.", registry=registry
        )
        resident = Gauge("tillstone_resident_bytes", "Memory of the process (RSS).", registry=registry)
        resident.set_function(_resident_bytes)

    def request(self, verb: str, code: str) -> None:
        """Count one answer; `code` is `ok` or the problem's code."""
        self._requests.at(verb, code).inc()

    def refusal(self, code: str) -> None:
        """Count one refusal, authenticated or not."""
        self._refusals.at(code).inc()

    def webhook(self, provider: str, outcome: str) -> None:
        """Count one webhook; `outcome` is a word of `payment/webhooks.py`."""
        self._webhooks.at(provider, outcome).inc()

    def screened(self, verdict: str, rule: str) -> None:
        """Count one verdict under the rule `any`, and once more under each rule that spoke."""
        self._screened.at(verdict, rule).inc()

    def door_opened(self, door: str, count: Callable[[], float]) -> None:
        """`count` tells the open connections of `door`: `pos`, `public`, `local` or `webhook`."""
        self._connections.at(door).set_function(count)

    def stage_took(self, stage: str, seconds: float) -> None:
        """Event loop only; `stage` is a name of ours."""
        self._stage.observe(stage, seconds)

    def operations_open(self, state: str, count: int) -> None:
        self._operations.at(state).set(count)

    def device_up(self, device: str, is_up: bool) -> None:
        """`device` is `hsm`, `tpm` or `printer`."""
        self._device_up.at(device).set(is_up)

    def device_state(self, state: DeviceState) -> None:
        """The one that the box is in."""
        for each in DeviceState:
            self._state.labels(each).set(each is state)

    def printed(self, result: str) -> None:
        """`result` is `done`, `uncertain`, `not_begun` or `dropped`."""
        self._pages.at(result).inc()

    def follower_stands(self, follower: str, *, lag_entries: int, success_seconds: float, is_late: bool) -> None:
        """`follower` is `witness`, `timestamp`, `publish` or `reconcile`."""
        self._follower_lag.at(follower).set(lag_entries)
        self._follower_success.at(follower).set(success_seconds)
        self._follower_late.at(follower).set(is_late)

    def offline(self, exposure: Exposure, *, now_ms: int) -> None:
        """What was accepted without a bank, and what open intents may still accept."""
        self._offline.set(exposure, now_ms)

    def backup_stands(self, newest_ms: int, *, has_failed: bool) -> None:
        """When the newest backup was made (Unix ms, 0 for none), and whether the last try failed."""
        self._backups.set(newest_ms, has_failed=has_failed)

    def breaks_open(self, provider: str, kind: str, count: int) -> None:
        """`kind` is of `model/reconciling.py`."""
        self._breaks.at(provider, kind).set(count)

    def follower_failed(self, follower: str) -> None:
        self._follower_failures.at(follower).inc()

    def render(self) -> bytes:
        """The exposition in Prometheus text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)


def _counter(name: str, words: str, labels: tuple[str, ...], registry: CollectorRegistry) -> _Labelled[Counter]:
    return _Labelled(Counter(name, words, labels, registry=registry))


class _Labelled(Generic[M]):
    """A metric with labels and the children it has given out."""

    __slots__ = ("_children", "_metric")

    def __init__(self, metric: M) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], M] = {}

    def at(self, *labels: str) -> M:
        """The child for `labels`; `other` when a label is malformed or there are too many children."""
        child = self._children.get(labels)
        if child is not None:
            return child
        if len(self._children) >= CHILDREN_MAX or not all(_LABEL.match(label) for label in labels):
            return self._metric.labels(*("other" for _ in labels))
        return self._children.setdefault(labels, self._metric.labels(*labels))


class _Backups:
    """How old the newest backup is, and how often none could be made."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Gauge("tillstone_backup_timestamp_seconds", "Of the newest; 0: none.", registry=registry)
        self._failures = Counter("tillstone_backup_failures", "Backups that failed.", registry=registry)

    def set(self, newest_ms: int, *, has_failed: bool) -> None:
        self._seconds.set(newest_ms / 1_000)
        self._failures.inc(has_failed)


class _OfflineGauges:
    """What hangs on banks that were not asked."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._minor = Gauge("tillstone_offline_minor", "Money that hangs on banks.", ("state",), registry=registry)
        self._payments = Gauge("tillstone_offline_payments", "Cards that wait for their bank.", registry=registry)
        self._oldest = Gauge("tillstone_offline_oldest_seconds", "Age of the oldest; 0: none.", registry=registry)

    def set(self, exposure: Exposure, now_ms: int) -> None:
        self._minor.labels("accepted").set(exposure.accepted_minor)
        self._minor.labels("reserved").set(exposure.reserved_minor)
        self._payments.set(exposure.accepted_count)
        oldest_ms = now_ms if exposure.oldest_ms is None else exposure.oldest_ms
        self._oldest.set(max(now_ms - oldest_ms, 0) / 1_000)


class _Timings(Collector):
    """A histogram of seconds by one label from a closed set, for the event loop alone.

    The library's own takes a lock for each bucket it touches: 4 us, and a payment passes five stages.
    """

    def __init__(self, name: str, text: str, label: str, registry: CollectorRegistry) -> None:
        self._name, self._text, self._label = name, text, label
        # Observations per bucket, the last one behind the largest bound; and their sum.
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, value: str, seconds: float) -> None:
        """Count one duration under the label's `value`."""
        counts = self._counts.get(value)
        if counts is None:
            counts = self._counts[value] = [0] * (len(_SECONDS) + 1)
            self._sums[value] = 0.0
        counts[bisect_left(_SECONDS, seconds)] += 1
        self._sums[value] += seconds

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=(self._label,))
        bounds = [*(repr(float(bound)) for bound in _SECONDS), "+Inf"]
        for value, counts in self._counts.items():
            family.add_metric((value,), list(zip(bounds, accumulate(counts), strict=True)), self._sums[value])
        return (family,)


def _resident_bytes() -> float:
    # `pread` of procfs does not wait for a disk, so the event loop may do it.
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        pages = int(os.pread(descriptor, 200, 0).split()[1])
    finally:
        os.close(descriptor)
    return float(pages * os.sysconf("SC_PAGESIZE"))
