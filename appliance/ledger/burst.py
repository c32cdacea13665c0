"""The answers of appends that were queued together, each for itself.

Owns one rule: every answer is heard, also after a failure. What nobody asks a future for, asyncio reports later as a
fault of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from appliance.ledger.draft import Recorded
from appliance.model.errors import Rejected, TillstoneError

Answer = tuple[Recorded, ...] | Rejected


async def hear(futures: Sequence[asyncio.Future[tuple[Recorded, ...]]], trouble: TillstoneError | None) -> list[Answer]:
    """Every answer, in order; a refusal is one.

    Args:
        trouble: what kept later ones from being queued; raised once the others are heard.
    Raises:
        TillstoneError: the first failure; other members may be durable.
    """
    answers: list[Answer] = []
    for future in futures:
        try:
            answers.append(await future)
        except Rejected as refusal:
            answers.append(refusal)
        except TillstoneError as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return answers
