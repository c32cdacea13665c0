"""The read-only door of a real box: what auditors and monitoring get without a credential."""

from __future__ import annotations

import json
import re

import pytest

from appliance.crypto import cose
from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.checkpoint import verify_checkpoint
from appliance.ledger.trust import load_trust
from tests.integration.box import RunningBox
from tests.integration.till import CASH, Till, verified

_SAMPLE = re.compile(r"\A[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[a-zA-Z_]\w*=\"(?:[^\"\\\n]|\\.)*\",?)*\})? \S+(?: -?\d+)?\Z")


def test_checkpoint_verifies_with_the_trust_file_alone(box: RunningBox, till: Till) -> None:
    head = verified(box, till.ask("payment", CASH))
    status, note = box.public("/checkpoint")
    assert status == 200
    status, trust_file = box.public("/trust.json")
    assert (status, trust_file) == (200, box.box.trust.read_bytes())
    (statement,) = load_trust(trust_file).logs.values()
    assert statement.keys.post_quantum.algorithm == cose.ML_DSA_87
    checkpoint = verify_checkpoint(
        note,
        origin=box.audience,
        note_key=statement.note_key,
        post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=statement.keys.post_quantum.public_key),
    )
    assert checkpoint.size >= head.size
    if checkpoint.size == head.size:
        assert checkpoint.root == head.root


def test_metrics_are_prometheus_text_and_count_requests(box: RunningBox, till: Till) -> None:
    till.ask("payment", CASH)
    till.ask("payment", CASH, audience="another")
    status, page = box.public("/metrics")
    assert status == 200
    lines = page.decode().splitlines()
    samples = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in samples if not _SAMPLE.match(line)] == []
    families = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert all(any(sample.startswith(family) for family in families) for sample in samples)
    assert any('verb="payment"' in sample and 'code="200"' in sample for sample in samples)
    assert any('code="wrong_audience"' in sample for sample in samples)


def test_health_is_well_while_the_box_sells(box: RunningBox) -> None:
    status, page = box.public("/health")
    assert (status, json.loads(page)["level"]) == (200, "ok")


@pytest.mark.parametrize("path", ["/", "/v1/payment", "/local_status", "/../ledger.db", "/entries"])
def test_nothing_else_is_there(box: RunningBox, path: str) -> None:
    status, content = box.public(path)
    assert (status, json.loads(content)["code"]) == (404, "not_found")
