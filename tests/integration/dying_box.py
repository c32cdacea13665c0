"""The real box, but it dies between an `erased` entry and the forgetting of the keys that it names. Holds no test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from appliance.__main__ import main
from appliance.ledger.disclosures import DisclosureVault


async def die(self: DisclosureVault, key_ids: Sequence[int]) -> None:
    """The power goes here, with `self` knowing the keys `key_ids`."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    DisclosureVault.forget = die  # type: ignore[method-assign] # production code has no hooks
    sys.exit(main())
