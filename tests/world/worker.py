"""A process that lives through worlds: a seed (and a bug) a line on stdin, one line of JSON a world on stdout.

    python -m tests.world.worker TEMPLATE [--notes]

Started by `command.py`, with the disk shim loaded.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
from pathlib import Path
from typing import Final

from appliance.crypto import signature
from appliance.ledger.trust import load_trust
from provisioning.terminal.ledger_receipts import LedgerReceipts
from tests.world.bugs import BUGS
from tests.world.template import AUDIENCE, Keys, Template
from tests.world.world import Lived, World

COLLECT_EVERY: Final = 4  # worlds; each leaves some ten megabytes


def main(arguments: list[str]) -> None:
    keeps_notes = "--notes" in arguments
    # A world is thrown away as it lies there: its dead processes were stopped in the middle of everything.
    sys.unraisablehook = lambda _: None
    template, keys = Template(folder=Path(arguments[0])), Keys.make()
    verifier = LedgerReceipts(trust=load_trust(template.trust()), audience=AUDIENCE)
    # A pure function: the same head is verified once for each receipt that hangs on it.
    vars(signature)["verify"] = functools.lru_cache(maxsize=1_024)(signature.verify)
    gc.collect()
    gc.freeze()
    # No collection in the middle of a world: it would run what its dead left unfinished.
    gc.disable()

    def live(seed: int) -> None:
        lived = World(seed, template, keys, verifier, keeps_notes=keeps_notes).live()
        print(json.dumps(_told(lived, with_lines=keeps_notes or bool(lived.violations))), flush=True)

    for number, line in enumerate(sys.stdin, start=1):
        seed, *bug = line.split()
        if bug:
            child = os.fork()
            if child == 0:
                BUGS[bug[0]].plant()
                live(int(seed))
                os._exit(0)
            if os.waitpid(child, 0)[1] != 0:
                sys.exit(f"the bug {bug[0]} could not be planted or lived with")  # whoever waits hears the end
        else:
            live(int(seed))
        if number % COLLECT_EVERY == 0:
            gc.collect()


def _told(lived: Lived, *, with_lines: bool) -> dict[str, object]:
    return {
        "seed": lived.seed,
        "violations": [[each.harm, each.what] for each in lived.violations],
        "digest": lived.digest,
        "entries": lived.entries,
        "steps": lived.steps,
        "lines": lived.lines if with_lines else [],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
