"""Owns the promise that what the model is trained on can be made again, and is never called anything but simulated."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from appliance.config.screening import Screening
from appliance.payment.screening.features import FEATURES
from appliance.payment.screening.trees import load_model
from provisioning.screening.report import Outcome, report
from provisioning.screening.simulate import simulate

PAGE = Path(__file__).parents[3] / "appliance" / "docs" / "screening.md"


def test_the_same_seed_simulates_the_same_trade_and_another_seed_another() -> None:
    first, again, other = (list(islice(simulate(seed, terminals=3, days=3), 400)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert all(len(each.features) == len(FEATURES) for each in first)


def test_a_simulated_trade_holds_sales_refunds_and_some_fraud() -> None:
    examples = list(simulate(1, terminals=6, days=6))
    refunds = sum(each.features[0] for each in examples)
    frauds = sum(each.is_fraud for each in examples)
    assert 0 < refunds < len(examples) * 0.1
    assert 0 < frauds < len(examples) * 0.1


def test_the_model_speaks_of_simulated_fraud_more_often_than_of_honest_trade() -> None:
    model, limit = load_model(None), Screening().model_score_permille
    spoken = {True: 0, False: 0}
    seen = {True: 0, False: 0}
    for each in simulate(7, terminals=4, days=12):  # a seed that no training saw
        seen[each.is_fraud] += 1
        spoken[each.is_fraud] += model.score_permille(each.features) >= limit
    assert spoken[True] > 0.2 * seen[True]
    assert spoken[False] < 0.01 * seen[False]


def test_report_and_page_say_that_it_is_simulated_and_which_model_it_is() -> None:
    outcome = Outcome(name="the model", average_precision=0.5, precision=0.25, recall=0.125, spoken=4)
    text = report([outcome], seed=3, limit=500, sha256="ab" * 32, trained=(10, 1), tested=(5, 1))
    assert "**All of this is simulated**" in text
    assert "| the model | 0.500 | 0.250 | 0.125 | 4 |" in text
    assert "ab" * 32 in text
    page = PAGE.read_text()
    assert "At simulated fraud, and only there" in page
    assert load_model(None).sha256.hex() in page


def test_the_page_tells_the_thresholds_that_hold_by_default() -> None:
    page, default = PAGE.read_text(), Screening()
    for told in (
        f"{default.velocity_sales_max} in {default.velocity_window_minutes} minutes",
        f"{default.sale_ceiling_minor:,} minor units",
        f"{default.hour_ceiling_minor:,} minor units",
        f"{default.refund_velocity_max} in {default.refund_velocity_window_minutes // 60} hours",
        f"score {default.model_score_permille} of 1000",
    ):
        assert told in page
    assert {getattr(default, f"{rule}_mode") for rule in ("velocity", "sale_ceiling", "hours", "model")} == {"watch"}
