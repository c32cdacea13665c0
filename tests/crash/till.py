"""A till that sells on the disk under test, in a process of its own. Holds no test.

    python -m tests.crash.till FOLDER FAULT_FILE sell COUNT
    python -m tests.crash.till FOLDER FAULT_FILE fault "sync ledger.db-wal eio 0"
    python -m tests.crash.till FOLDER FAULT_FILE kill STEP before|after CALLS

Each key that was acknowledged goes to FOLDER/acks, each signed head as `head:SIZE`. The last line on stdout says how it
ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.draft import Disclosure, Draft, Purpose
from appliance.ledger.group import Group
from appliance.ledger.guard import KeysUnused
from appliance.ledger.ledger import Ledger
from appliance.ledger.writer import Writer
from appliance.model.errors import TillstoneError
from tests.unit.ledger.shop import draft, open_ledger, running, sale

STEPS: dict[str, tuple[Any, str]] = {
    "begin": (Writer, "_begin"),
    "admit": (Writer, "_admit"),
    "flush": (Group, "flush"),
    "finish": (Group, "finish"),
    "commit": (Writer, "_commit"),
    "settle": (Ledger, "_settle"),
    "forget": (DisclosureVault, "forget"),
}


class Till:
    """Sells, and writes down what it was told."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.number = ledger.head.size
        self._acks = os.open(folder / "acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def sell(self, count: int) -> None:
        """`count` groups: single sales, pairs and crowds."""
        for at in range(count):
            crowd = (1, 1, 3, 12)[at % 4]
            async with asyncio.TaskGroup() as tasks:
                for _ in range(crowd):
                    tasks.create_task(self.one())
            if at % 5 == 4:
                bundle = await self.ledger.receipts([self.ledger.head.size - 1], wait_ms=5_000)
                if bundle is not None:
                    self.acknowledge(f"head:{bundle.head.size}:{bundle.head.root.hex()}")

    async def one(self) -> None:
        self.number += 1
        key = f"k{self.number}"
        await self.ledger.append([self._draft(key)], KeysUnused(table="sales", keys=(key,)), purpose=Purpose.OUTCOME)
        self.acknowledge(key)

    def _draft(self, key: str) -> Draft:
        if self.number % 3:
            return sale(key)
        buyer = Disclosure(name="buyer", salt=b"s" * 16, value=b"Erika", subject=f"person:{self.number % 5}")
        return draft("sale", {"amount": 1, "buyer": buyer.commitment, "key": key}, (buyer,))

    def acknowledge(self, what: str) -> None:
        os.write(self._acks, f"{what}\n".encode())


async def sell(folder: Path, count: int) -> str:
    async with running(await open_ledger(folder)) as ledger:
        await Till(ledger, folder).sell(count)
        await ledger.erase("person:1", actor="operator:1")
        await Till(ledger, folder).sell(2)
    return "sold"


async def fault(folder: Path, fault_file: Path, line: str) -> None:
    """Sell, break the disk, see what a sale says, heal the disk, see again."""
    ledger = await open_ledger(folder)
    async with running(ledger):
        till = Till(ledger, folder)
        await till.sell(3)
        await asyncio.to_thread(fault_file.write_text, line)
        broken = await outcome(till)
        await asyncio.to_thread(fault_file.write_text, "")
        healed = await outcome(till)
        print(broken, healed, "failed" if ledger.failure is not None else "running", flush=True)
        # As the process does: at once, so that no destructor touches the files again.
        os._exit(0)


async def outcome(till: Till) -> str:
    try:
        await till.one()
    except TillstoneError as error:
        return f"{type(error).__name__}:{error.code}"
    return "sold"


def kill_at(step: str, when: str, calls: int) -> None:
    """From the `calls`-th call on, die before or after a step of the writer."""
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    left = calls

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left <= 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


def main(arguments: list[str]) -> None:
    folder, fault_file = Path(arguments[0]), Path(arguments[1])
    match arguments[2:]:
        case ["sell", count]:
            print(asyncio.run(sell(folder, int(count))))
        case ["fault", line]:
            asyncio.run(fault(folder, fault_file, line))
        case ["kill", step, when, calls]:
            kill_at(step, when, int(calls))
            print(asyncio.run(sell(folder, 12)))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
