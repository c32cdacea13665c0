"""`make train-screen`: simulated trade in, a model as JSON and an honest report out; the same bytes for the same seed.

Runs with scikit-learn in an environment of its own under build/, never on a box. Must never write a model whose trees,
walked by the box's code, give another number than scikit-learn does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.metrics import average_precision_score

from appliance.config.screening import Screening
from appliance.payment.screening.features import FEATURES
from appliance.payment.screening.trees import VERSION, Model, read_model
from provisioning.screening.report import Outcome, report
from provisioning.screening.simulate import simulate

VECTORS: Final = 200
_TREES: Final = 60
_LEAVES: Final = 15


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description="Train the screening model on simulated sales.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--report", type=Path, required=True, help="where the report goes (Markdown)")
    parser.add_argument("--vectors", type=Path, help="where inputs with scikit-learn's outputs go, for the tests")
    arguments = parser.parse_args()
    examples = list(simulate(arguments.seed))
    values = numpy.array([example.features for example in examples])
    labels = numpy.array([example.is_fraud for example in examples])
    # Whole terminals are kept apart: the test asks about tills that the model has never seen.
    is_test = numpy.array([example.terminal % 3 == 0 for example in examples])
    trained = HistGradientBoostingClassifier(
        max_iter=_TREES, max_leaf_nodes=_LEAVES, learning_rate=0.1, early_stopping=False, random_state=arguments.seed
    ).fit(values[~is_test], labels[~is_test])
    octets = _encode(trained)
    model = read_model(octets)
    raw = trained.decision_function(values[is_test])
    _require_equal(model, values[is_test], raw)
    forest = IsolationForest(n_estimators=100, random_state=arguments.seed).fit(values[~is_test])
    hands = numpy.array([_hand_rules(row) for row in values[is_test].tolist()])
    truth = labels[is_test]
    limit = Screening().model_score_permille
    spoken = numpy.array([model.score_permille(row) >= limit for row in values[is_test].tolist()])
    outcomes = [
        _outcome("the model, at the shipped threshold", truth, raw, spoken),
        _outcome("three hand rules, any of them", truth, hands, hands > 0),
        _forest_outcome(forest, values[is_test], truth, spoken),
    ]
    arguments.model.write_bytes(octets)
    arguments.report.write_text(
        report(
            outcomes,
            seed=arguments.seed,
            limit=limit,
            sha256=model.sha256.hex(),
            trained=(int((~is_test).sum()), int(labels[~is_test].sum())),
            tested=(int(is_test.sum()), int(truth.sum())),
        )
    )
    if arguments.vectors is not None:
        rows = [
            {"features": row, "raw": value} for row, value in zip(values[is_test].tolist(), raw.tolist(), strict=True)
        ]
        step = len(rows) // VECTORS
        arguments.vectors.write_text(json.dumps({"model": model.sha256.hex(), "rows": rows[::step][:VECTORS]}) + "\n")


def _encode(trained: Any) -> bytes:
    """The trees of scikit-learn's model, node by node; floats as the shortest text that reads back the same."""
    trees = []
    for (predictor,) in trained._predictors:
        nodes = predictor.nodes
        leaf = [bool(flag) for flag in nodes["is_leaf"]]
        trees.append(
            {
                "feature": [
                    -1 if is_leaf else int(index) for is_leaf, index in zip(leaf, nodes["feature_idx"], strict=True)
                ],
                "threshold": [
                    float(value if is_leaf else threshold)
                    for is_leaf, value, threshold in zip(leaf, nodes["value"], nodes["num_threshold"], strict=True)
                ],
                "left": [0 if is_leaf else int(child) for is_leaf, child in zip(leaf, nodes["left"], strict=True)],
                "right": [0 if is_leaf else int(child) for is_leaf, child in zip(leaf, nodes["right"], strict=True)],
            }
        )
    baseline = float(trained._baseline_prediction[0, 0])
    file = {"version": VERSION, "features": FEATURES, "baseline": baseline, "trees": trees}
    return json.dumps(file, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _require_equal(model: Model, values: Any, raw: Any) -> None:
    for row, expected in zip(values.tolist(), raw.tolist(), strict=True):
        if model.raw(row) != expected:
            raise SystemExit(f"the walked trees differ from scikit-learn: {model.raw(row)!r}, not {expected!r}")


def _hand_rules(row: list[float]) -> int:
    """What a shopkeeper would write down: a large sale by card, many refunds, a burst of small sums by card."""
    seen = dict(zip(FEATURES, row, strict=True))
    by_card = bool(seen["is_card"]) and not seen["is_refund"]
    large = by_card and seen["amount_ratio"] > 5
    many_refunds = bool(seen["is_refund"]) and seen["refunds_day"] >= 3
    burst = by_card and seen["sales_10_minutes"] >= 5 and seen["amount_ratio"] < 0.25
    return large + many_refunds + burst


def _outcome(name: str, truth: Any, score: Any, spoken: Any) -> Outcome:
    hits = int((spoken & truth).sum())
    return Outcome(
        name=name,
        average_precision=float(average_precision_score(truth, score)),
        precision=hits / max(int(spoken.sum()), 1),
        recall=hits / max(int(truth.sum()), 1),
        spoken=int(spoken.sum()),
    )


def _forest_outcome(forest: Any, values: Any, truth: Any, spoken: Any) -> Outcome:
    """The forest has no threshold of its own: it may speak as often as the model does."""
    score = -forest.score_samples(values)
    cut = numpy.sort(score)[-max(int(spoken.sum()), 1)]
    return _outcome("an isolation forest, speaking as often", truth, score, score >= cut)


if __name__ == "__main__":
    main()
