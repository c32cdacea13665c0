"""Shapes are worked out before threads begin, not at their first use."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec

from appliance.runtime.shapes import settle_shapes

EARLY: Any = int


class Early(msgspec.Struct):
    """Its member's type is looked up by name when the shape is worked out."""

    number: EARLY


def test_a_settled_shape_is_not_worked_out_again_at_its_first_use() -> None:
    settle_shapes()
    del globals()["EARLY"]  # whoever works the shape out now fails

    assert msgspec.convert({"number": 7}, Early).number == 7


def test_every_shape_of_the_process_and_of_the_command_line_can_be_settled() -> None:
    imports = "import appliance.__main__, provisioning.cli, provisioning.sandbox.breaks.power"
    program = f"{imports}\nfrom appliance.runtime.shapes import settle_shapes\nsettle_shapes()"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
