"""`python -m appliance --config FILE`: the process, as it runs on the device and in the sandbox."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance.config.load import SettingsInvalid, load
from appliance.model.errors import TillstoneError
from appliance.runtime.clock import FlooredClock, SystemClock
from appliance.runtime.log_bridge import bridge
from appliance.runtime.log_open import open_log
from appliance.runtime.process import run_process
from appliance.runtime.shapes import settle_shapes
from appliance.runtime.tracing import open_tracer
from appliance.wiring.box import run_box


def main() -> int:
    """Run until told to stop; 0 after an orderly stop, 1 after a failure, 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="python -m appliance", description="The Tillstone appliance.")
    parser.add_argument("--config", type=Path, required=True, help="tillstone.toml")
    arguments = parser.parse_args()
    try:
        settings = load(arguments.config)
    except SettingsInvalid as invalid:
        for fault in invalid.faults:
            sys.stderr.write(f"{arguments.config}: {fault.place}: {fault.reason}\n")
        return 2
    # libtss2 writes to standard error by itself whenever the TPM is away; our own log says it once.
    os.environ.setdefault("TSS2_LOG", "all+none")
    os.umask(0o077)
    settle_shapes()
    clock = FlooredClock(SystemClock())
    with open_log(settings.log, clock=clock) as log:
        bridge(log)
        tracer = open_tracer(settings.otlp, service=settings.shop.serial)
        try:
            run_process(lambda: run_box(settings, log=log, clock=clock, tracer=tracer))
        except TillstoneError as error:
            log.error("start.failed", code=error.code, detail=error.detail)
            return 1
        except ExceptionGroup as group:
            for failure in group.exceptions:
                log.error("box.failed", error=failure)
            return 1
        finally:
            tracer.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: after a failed commit SQLite must not checkpoint while the interpreter tears its connection down.
    os._exit(code)
