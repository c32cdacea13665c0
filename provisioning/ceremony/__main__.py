"""`python -m provisioning.ceremony`: the ceremony as the image's unit runs it, with what it says left on the stick.

Owns that page of text: a box without a screen has no other way to say what is wrong.
"""

from __future__ import annotations

import argparse
import io
import sys
from contextlib import redirect_stderr, redirect_stdout

from appliance.model.errors import TillstoneError
from provisioning.ceremony.stick import PROTOCOL, put
from provisioning.commands.outcome import CannotDo
from provisioning.commands.provision import add_arguments, run


def main() -> int:
    """The exit code of `tillstone provision`."""
    parser = argparse.ArgumentParser(prog="python -m provisioning.ceremony")
    add_arguments(parser)
    arguments = parser.parse_args()
    page = io.StringIO()
    with redirect_stdout(page), redirect_stderr(page):
        code = _told(arguments)
    sys.stdout.write(page.getvalue())
    if arguments.stick is not None:
        put(arguments.stick, PROTOCOL, page.getvalue().encode())
    return code


def _told(arguments: argparse.Namespace) -> int:
    try:
        return run(arguments)
    except CannotDo as trouble:
        print(f"{trouble.sentence}\n  next: {trouble.next_step}")
    except TillstoneError as trouble:
        print(f"{trouble.detail} ({trouble.code})\n  next: start the box again; it goes on where it was")
    return 2


if __name__ == "__main__":
    sys.exit(main())
