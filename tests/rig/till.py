"""`python -m tests.rig.till HOME JOURNAL SEED`: a till that sells, refunds, reverses and sends batches.

A process of its own, for its place in the network. It writes what it believed into the journal, a JSON line for each
final answer or refusal, and ends once it has read a line from stdin and nothing is open: its last line says so.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from appliance.runtime.clock import SystemClock
from provisioning.terminal.client import open_terminal
from provisioning.terminal.home import TerminalHome
from tests.crash.sellers import Books, Seller

SELLERS: Final = 2
"""At once per till: the box answers slowly under emulation, and waiting tills are no load."""
PATIENCE_MS: Final = 5_000
_LOOK_S: Final = 0.05


async def sell(home: TerminalHome, journal: TextIOWrapper, seed: int) -> None:
    """Until stdin says a line, then until nothing is open."""
    books, randomness = Books(), random.Random(seed)
    async with open_terminal(home, clock=SystemClock()) as client, asyncio.TaskGroup() as tasks:
        sellers = [Seller(client, books, randomness, patience_ms=PATIENCE_MS) for _ in range(SELLERS)]
        selling = [tasks.create_task(seller.run()) for seller in sellers]
        ending = tasks.create_task(asyncio.to_thread(sys.stdin.readline))
        lines = _new_lines(books)
        while not all(task.done() for task in selling):
            await asyncio.sleep(_LOOK_S)
            _write(journal, next(lines))
            for seller in sellers:
                seller.is_over = ending.done()
    _write(journal, [*next(lines), {"finished": True}])


def _write(journal: TextIOWrapper, lines: list[dict[str, Any]]) -> None:
    journal.writelines(json.dumps(line) + "\n" for line in lines)
    journal.flush()


def _new_lines(books: Books) -> Iterator[list[dict[str, Any]]]:
    """What the books hold more than the last time."""
    told, asked, refused = 0, 0, set[str]()
    while True:
        lines: list[dict[str, Any]] = [{"told": asdict(each)} for each in books.told[told:]]
        lines += [{"asked": key} for key in books.payments[asked:]]
        lines += [{"refused": key} for key in books.refused - refused]
        told, asked, refused = len(books.told), len(books.payments), set(books.refused)
        yield lines


def main() -> None:
    home, journal, seed = sys.argv[1:]
    print("selling", flush=True)
    with Path(journal).open("w", encoding="utf-8") as file:
        asyncio.run(sell(TerminalHome(folder=Path(home)), file, int(seed)))


if __name__ == "__main__":
    main()
