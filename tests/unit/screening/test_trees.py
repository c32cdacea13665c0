"""Owns the promise that trees are walked bit for bit as scikit-learn does, and that no file makes a walk go wrong."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected
from appliance.payment.screening import trees
from appliance.payment.screening.features import FEATURES
from appliance.payment.screening.trees import MODEL_BYTES_MAX, load_model, read_model

VECTORS = Path(__file__).parents[2] / "vectors" / "screen_model.json"
LEAF: dict[str, Any] = {"feature": [-1], "threshold": [0.5], "left": [0], "right": [0]}
SPLIT: dict[str, Any] = {"feature": [2, -1, -1], "threshold": [3.0, -1.0, 2.0], "left": [1, 0, 0], "right": [2, 0, 0]}
GOOD: dict[str, Any] = {"version": 1, "features": list(FEATURES), "baseline": -1.0, "trees": [SPLIT, LEAF]}


def test_the_shipped_model_gives_what_scikit_learn_gave_bit_for_bit() -> None:
    model, vectors = load_model(None), json.loads(VECTORS.read_text())
    assert model.sha256.hex() == vectors["model"]
    assert len(vectors["rows"]) == 200
    for row in vectors["rows"]:
        assert model.raw(row["features"]) == row["raw"]
    scores = [model.score_permille(row["features"]) for row in vectors["rows"]]
    assert min(scores) < 10
    assert max(scores) > 500


def test_a_small_model_is_walked_as_it_is_written() -> None:
    octets = json.dumps(GOOD).encode()
    model, features = read_model(octets), [0.0] * len(FEATURES)
    assert model.sha256 == hashlib.sha256(octets).digest()
    assert model.raw(features) == -1.0 - 1.0 + 0.5
    features[2] = 3.0
    assert model.raw(features) == -1.5  # the threshold itself goes left
    features[2] = 3.0000000000000004
    assert model.raw(features) == 1.5
    assert model.score_permille(features) == 817


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(model: dict[str, Any]) -> None:
        at: Any = model
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in steps:
            at = at[step]
        at[last] = value

    return change


HOSTILE = {
    "another_version": _set("version", 2),
    "features_in_another_order": _set("features", list(reversed(FEATURES))),
    "a_stranger_member": _set("more", 1),
    "no_trees": _set("trees", []),
    "too_many_trees": _set("trees", [LEAF] * 501),
    "too_many_nodes": _set("trees/0", {name: column * 256 for name, column in LEAF.items()}),
    "columns_of_two_lengths": _set("trees/0/right", [2, 0]),
    "an_unknown_feature": _set("trees/0/feature/0", len(FEATURES)),
    "a_negative_feature": _set("trees/0/feature/0", -2),
    "a_child_that_is_its_parent": _set("trees/0/left/0", 0),
    "a_child_outside": _set("trees/0/right/0", 3),
    "a_negative_child": _set("trees/0/left/0", -1),
    "a_number_as_text": _set("trees/0/threshold/0", "3"),
    "text_as_baseline": _set("baseline", None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused(name: str) -> None:
    model = copy.deepcopy(GOOD)
    HOSTILE[name](model)
    with pytest.raises(Rejected, match="screen_model_refused"):
        read_model(json.dumps(model).encode())


@pytest.mark.parametrize(
    "octets",
    [b"", b"{", b"\xff", b"[" * 100_000, b" " * (MODEL_BYTES_MAX + 1), b"null"],
    ids=["empty", "cut", "no_text", "deep", "long", "null"],
)
def test_what_is_no_model_is_refused(octets: bytes) -> None:
    with pytest.raises(Rejected, match="screen_model_refused"):
        read_model(octets)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
@pytest.mark.parametrize("place", ['"baseline": -1.0', '"threshold": [3.0'])
def test_numbers_that_are_not_finite_are_refused(number: str, place: str) -> None:
    text = json.dumps(GOOD)
    assert place in text
    head = place.rpartition(" " if "[" not in place else "[")
    with pytest.raises(Rejected, match="screen_model_refused"):
        read_model(text.replace(place, head[0] + head[1] + number, 1).encode())


def test_scores_stay_within_bounds_at_any_odds() -> None:
    for baseline, score in ((-1e308, 0), (1e308, 1000), (-800.0, 0)):
        model = read_model(json.dumps({**GOOD, "baseline": baseline}).encode())
        assert model.score_permille([0.0] * len(FEATURES)) == score


def test_a_file_that_is_not_there_is_refused_and_one_that_is_too_long_is_not_read_whole(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="screen_model_refused"):
        load_model(tmp_path / "none.json")
    (tmp_path / "long.json").write_bytes(b" " * (trees.MODEL_BYTES_MAX + 1))
    with pytest.raises(Rejected, match="at most"):
        load_model(tmp_path / "long.json")
