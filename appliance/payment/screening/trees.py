"""A gradient-boosted model: trees in JSON, checked hard when they are read, walked in plain Python.

Owns the format (docs/formats/screen-model.md). Must never follow a node that was not checked: every child stands behind
its parent, so a walk ends, whoever wrote the file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from appliance.model.errors import Rejected
from appliance.payment.screening.features import FEATURES

VERSION: Final = 1
MODEL_BYTES_MAX: Final = 1024 * 1024
TREES_MAX: Final = 500
NODES_MAX: Final = 255
_SHIPPED: Final = Path(__file__).with_name("model.json")

_Node: TypeAlias = tuple[int, float, int, int]
"""Feature, threshold, left, right; a leaf has feature -1 and its value as threshold."""


class _TreeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=False):
    """Columns of one tree's nodes, the root first."""

    feature: Annotated[tuple[int, ...], Meta(min_length=1, max_length=NODES_MAX)]
    threshold: Annotated[tuple[float, ...], Meta(max_length=NODES_MAX)]
    left: Annotated[tuple[int, ...], Meta(max_length=NODES_MAX)]
    right: Annotated[tuple[int, ...], Meta(max_length=NODES_MAX)]


class _ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    features: Annotated[tuple[str, ...], Meta(max_length=100)]
    baseline: float
    trees: Annotated[tuple[_TreeFile, ...], Meta(min_length=1, max_length=TREES_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checked model; `sha256` is of the file, byte for byte."""

    sha256: bytes
    baseline: float
    trees: tuple[tuple[_Node, ...], ...]

    def raw(self, features: Sequence[float]) -> float:
        """Log odds: exactly the sum, in the order, that the trainer's library computes."""
        total = self.baseline
        for tree in self.trees:
            feature, threshold, left, right = tree[0]
            while feature >= 0:
                feature, threshold, left, right = tree[left if features[feature] <= threshold else right]
            total += threshold
        return total

    def score_permille(self, features: Sequence[float]) -> int:
        """How likely this is fraud, in the world that the model was trained on; 0 to 1000."""
        raw = self.raw(features)
        # exp() of a large number overflows; of -745 and less it is 0.
        return int(1000 / (1 + math.exp(-raw))) if raw > -700 else 0


def load_model(path: Path | None) -> Model:
    """The model in `path`, None for the one that ships.

    Raises:
        Rejected: `screen_model_refused`: no file, or not a model of this version for these features.
    """
    try:
        with (path or _SHIPPED).open("rb") as file:
            octets = file.read(MODEL_BYTES_MAX + 1)
    except OSError as cause:
        raise _refused(f"it cannot be read ({cause.strerror})") from cause
    return read_model(octets)


def read_model(octets: bytes) -> Model:
    """The model that `octets` hold. Raises Rejected `screen_model_refused`."""
    if len(octets) > MODEL_BYTES_MAX:
        raise _refused(f"expected at most {MODEL_BYTES_MAX} bytes")
    try:
        file = msgspec.json.decode(octets, type=_ModelFile)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as cause:
        raise _refused("it is not the JSON that docs/formats/screen-model.md describes") from cause
    if file.version != VERSION or file.features != FEATURES:
        raise _refused(f"expected version {VERSION} with the {len(FEATURES)} features of this release")
    if not math.isfinite(file.baseline):
        raise _refused("expected finite numbers")
    return Model(
        sha256=hashlib.sha256(octets).digest(),
        baseline=file.baseline,
        trees=tuple(_tree(tree) for tree in file.trees),
    )


def _tree(tree: _TreeFile) -> tuple[_Node, ...]:
    size = len(tree.feature)
    if not size == len(tree.threshold) == len(tree.left) == len(tree.right):
        raise _refused("expected columns of one length")
    nodes = tuple(zip(tree.feature, tree.threshold, tree.left, tree.right, strict=True))
    for index, (feature, threshold, left, right) in enumerate(nodes):
        if not -1 <= feature < len(FEATURES) or not math.isfinite(threshold):
            raise _refused("expected a known feature and a finite number in every node")
        if feature >= 0 and not (index < left < size and index < right < size):
            raise _refused("expected every child behind its parent")
    return nodes


def _refused(what: str) -> Rejected:
    return Rejected("screen_model_refused", f"the screening model is not used: {what}")
