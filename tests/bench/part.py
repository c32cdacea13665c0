"""One measurement as a process of its own, so that nothing else lies in its memory or on its event loop.

Owns the pipe: a specification goes in, figures come out, both JSON. What a part says on stderr reaches the person.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

SpecT = TypeVar("SpecT", bound=msgspec.Struct)
ResultT = TypeVar("ResultT", bound=msgspec.Struct)

TIMEOUT_S = 900.0


class PartFailed(Exception):
    """A measurement could not be made; the message is what its process said last."""


def run_part(module: str, spec: msgspec.Struct, result: type[ResultT], environment: Mapping[str, str]) -> ResultT:
    """Run `python -m tests.bench.MODULE` with `spec` and return what it measured."""
    made = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{module}"],
        input=msgspec.json.encode(spec),
        capture_output=True,
        env=dict(environment),
        timeout=TIMEOUT_S,
        check=False,
    )
    if made.returncode != 0:
        raise PartFailed(f"{module}: {made.stderr.decode(errors='replace').strip()[-1500:]}")
    return msgspec.json.decode(made.stdout, type=result)


def serve_part(measure: Callable[[SpecT], msgspec.Struct], spec: type[SpecT]) -> None:
    """The other end: read the specification, measure, write the result."""
    result = measure(msgspec.json.decode(sys.stdin.buffer.read(), type=spec))
    sys.stdout.buffer.write(msgspec.json.encode(result))
