"""Published vectors beside the project; a test that needs an absent one is skipped with the file's name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[3].parent / "shared" / "vectors"


def load(name: str) -> Any:  # a JSON file of another project
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"missing ../shared/vectors/{name}")
    return json.loads(gzip.decompress(path.read_bytes()))


def cases(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every (group, test) of a Wycheproof file."""
    for group in load(name)["testGroups"]:
        for test in group["tests"]:
            yield group, test
