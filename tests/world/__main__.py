"""`python -m tests.world`: see `command.py`."""

import sys

from tests.world.command import main

sys.exit(main())
