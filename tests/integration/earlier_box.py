"""The appliance on a machine whose battery is flat: its wall clock says that it is twenty years earlier."""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from appliance.__main__ import main

EARLIER_NS: Final = 20 * 365 * 86_400 * 1_000_000_000

if __name__ == "__main__":
    right = time.time_ns
    time.time_ns = lambda: right() - EARLIER_NS
    code = main()
    sys.stdout.flush()
    os._exit(code)
