"""The real box, for which entries are old at once; it dies after its first `pruned` entry if told so. Holds no test.

Production code has no hooks: the bounds are those of a log of thousands, made small enough for a log of hundreds.
"""

from __future__ import annotations

import os
import signal
import sys

from appliance.__main__ import main
from appliance.ledger import prune
from appliance.ledger.prune import Pruning

append = Pruning._append


async def append_and_die(self: Pruning, kind: str, body: bytes) -> int:
    """The power goes once a step is durable."""
    seq = await append(self, kind, body)
    if kind == os.environ.get("DIE_AFTER"):
        os.kill(os.getpid(), signal.SIGKILL)
    return seq


if __name__ == "__main__":
    prune.KEPT_MS_MIN = 0  # type: ignore[misc] # see above
    prune.STEP_ENTRIES = 256  # type: ignore[misc] # see above
    prune.TAIL_ENTRIES = 256  # type: ignore[attr-defined] # see above
    Pruning._append = append_and_die  # type: ignore[method-assign] # see above
    sys.exit(main())
