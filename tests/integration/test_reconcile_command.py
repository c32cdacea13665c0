"""`tillstone reconcile` at a real box with the Stripe twin beside it: exit codes, words, files, an accepted break."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.cli import main
from provisioning.sandbox.twin_door import TwinDoor
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CARD, Till, new_key, paired_till
from tests.stripe_twin import TwinProcess


def test_the_running_day_is_compared_and_says_what_to_do_about_each_break(
    card_box: RunningBox, card_till: Till, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("--dir", str(card_box.box.data))

    def told(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["reconcile", *words, *here])
        output = capsys.readouterr()
        return code, output.out + output.err

    assert told() == (0, "Nothing to compare: stripe never confirmed a payment.\n")
    assert told("-o", str(tmp_path / "day.csv"))[0] == 2
    key = new_key()
    assert card_till.ask("payment", CARD, key).status in (200, 202)
    assert card_till.until_final(key, seconds_max=30).body["state"] == "approved"

    code, text = told()
    assert code == 0
    assert "Nothing is open." in text
    assert " ".join(text.split()).count("gross 9.90 fees -0.40 net 9.50") == 1

    assert card_box.twin is not None
    (charge,) = card_box.twin.control("GET", "charges")["charges"]
    card_box.twin.control("POST", "balance", {"payment": charge["payment_intent"], "what": "disputed"})
    code, text = told("-o", str(tmp_path / "day.csv"))
    assert code == 1
    assert "missing_here dispute" in text
    assert "answer at the provider before its deadline" in text
    assert "What differs at stripe" in (tmp_path / "day.csv").read_text()
    code, text = told("-o", str(tmp_path / "day.pdf"), "--json")
    found: dict[str, Any] = json.loads(text)
    assert (code, found["open_count"]) == (1, 1)
    assert (tmp_path / "day.pdf").read_bytes().startswith(b"%PDF-1.7")

    subject = found["breaks"][0]["subject"]
    code, text = told("--accept", "missing_here", subject)
    assert (code, "nobody said why" in text, "add --reason TEXT" in text) == (2, True, True)
    code, text = told("--accept", "missing_here", subject, "--reason", "lost")
    assert (code, "break_unknown" in text) == (2, True), "a day that has not ended opens nothing yet"
    assert told("--day", "yesterday")[0] == 2


def test_a_box_without_cards_has_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_box(tmp_path / "shop") as running:
        assert main(["reconcile", "--dir", str(running.box.data)]) == 2
        assert "statement_missing" in capsys.readouterr().err


def test_health_and_metrics_know_the_daily_look(card_box: RunningBox, capsys: pytest.CaptureFixture[str]) -> None:
    ends = time.monotonic() + 20
    while True:
        assert main(["status", "--dir", str(card_box.box.data), "--json"]) == 0
        findings = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
        if "stripe: no day was compared yet" in findings["reconcile"]["sentence"]:
            break
        assert time.monotonic() < ends, findings["reconcile"]
        time.sleep(0.1)


PAYPAL_SETTINGS = """
[provider.paypal]
api_base = "{base}"
client_id = "client-of-a-test"
client_secret_path = "{secret}"
"""


@pytest.fixture
def paypal(tmp_path: Path) -> Iterator[TwinProcess]:
    """PayPal's twin beside Stripe's; payers agree at once, and what they paid is listed at once."""
    folder = tmp_path / "paypal"
    folder.mkdir()
    secret = folder / "api-key"
    secret.touch(mode=0o600)
    secret.write_text("a-secret-of-a-test\n")
    process = TwinProcess(folder, "provisioning.sandbox.paypal_twin")
    process.start()
    yield process
    process.stop(signal.SIGTERM)


def test_each_provider_is_compared_and_one_that_cannot_be_read_hides_no_other(
    tmp_path: Path, paypal: TwinProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "paypal"
    control = TwinDoor(base=paypal.base, folder=folder).control
    control("POST", "customer", {"does": "agree"})
    control("POST", "report/lateness", {"late_ms": 0})
    settings = PAYPAL_SETTINGS.format(base=paypal.base, secret=folder / "api-key")
    with running_box(tmp_path / "shop", has_cards=True, settings=settings) as running:
        till = paired_till(running, tmp_path, "till-1")
        here = ("--dir", str(running.box.data))

        def told(*words: str) -> tuple[int, str]:
            capsys.readouterr()
            code = main(["reconcile", *words, *here])
            output = capsys.readouterr()
            return code, " ".join((output.out + output.err).split())

        def sell(kind: str) -> None:
            key = new_key()
            sale = {"currency": "EUR", "amount_minor": 500, "tenders": [{"kind": kind, "amount_minor": 500}]}
            assert till.ask("payment", sale, key).status in (200, 202)
            assert till.until_final(key, seconds_max=30).body["state"] == "approved"

        assert told() == (0, "Nothing to compare: stripe, paypal never confirmed a payment.")
        assert told("--day", "2026-09-01")[0] == 2
        sell("paypal")
        code, text = told()
        assert (code, "Money at paypal by the log" in text, "Money at stripe" in text) == (0, True, False)
        assert "gross 5.00 fees -0.47 net 4.53" in text
        sell("card")
        code, text = told()
        assert (code, text.count("Nothing is open.")) == (0, 2)

        code, text = told("-o", str(tmp_path / "day.pdf"))
        assert (code, "--provider" in text, (tmp_path / "day.pdf").exists()) == (2, True, False)
        assert told("-o", str(tmp_path / "day.pdf"), "--provider", "paypal")[0] == 0
        assert (tmp_path / "day.pdf").exists()
        code, text = told("--provider", "coinbase")
        assert (code, "provider_unknown" in text) == (2, True)

        control("POST", "faults", {"fault": "error_then_success", "path": "/v1/reporting/transactions"})
        code, text = told()
        assert (code, text.count("Nothing is open."), "PayPal's statement could not be read" in text) == (2, 1, True)
