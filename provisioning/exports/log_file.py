"""Writes a ledger's folder as one exported log, while the box may be running on it.

Must never write what it has not verified, nor a disclosure: the format has no place for one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.ledger.export import write_log
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.receipt import SignedHead
from appliance.ledger.verify import verify_log
from appliance.model.errors import Corrupt
from provisioning.exports.output import new_file
from provisioning.verify.ledger_folder import open_folder
from provisioning.verify.progress import Progress, counted
from provisioning.verify.wording import short

PROOF_OF_LOG: Final = (
    "the entries give the root that both keys of the log signed; the owner was not checked: tillstone verify log does"
)


def export_log(
    folder: Path, output: Path, find_head: Callable[[LogKeys], SignedHead], progress: Progress
) -> SignedHead:
    """Write the entries below the head that `find_head` returns for the log's keys.

    Raises:
        BadEntry: the ledger is damaged; nothing was written.
        Corrupt: `head_mismatch`: the entries do not give the signed root.
    """
    with open_folder(folder) as ledger:
        head = find_head(ledger.log_keys())
        progress.begin(2 * head.size)
        log = verify_log(counted(ledger.entries(head.size), progress), owner=None)
        if (log.log_id, log.size, log.root) != (head.log_id, head.size, head.root):
            raise Corrupt(
                "head_mismatch", f"the head signs root {short(head.root)} of size {head.size}, saw {short(log.root)}"
            )
        with new_file(output) as partial, partial.open("wb") as file:
            is_pruned = ledger.pruned_below > 0
            write_log(file, counted(ledger.entries(head.size), progress), head, is_pruned=is_pruned)
    return head
