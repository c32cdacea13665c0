"""What the box was when a day was closed stands in the log, under the checkpoint that covers the day."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.ledger.entry import decode
from appliance.ledger.trust import load_trust
from appliance.ledger.verify import verify_log
from appliance.wire.attestation import AttestedEntry
from provisioning.attest.check import Demand, Steps, judge
from provisioning.cli import main
from provisioning.verify.ledger_folder import open_folder
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, paired_till


@pytest.mark.parametrize("is_away", [False, True])
def test_the_days_quote_stands_before_its_close_and_a_tpm_that_is_away_does_not_keep_the_day_open(
    tmp_path: Path, is_away: bool
) -> None:
    with running_box(tmp_path / "shop") as box:
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH).body["state"] == "approved"
        if is_away:
            box.lose_tpm()
        assert main(["close-day", "--dir", str(box.box.data), "--json"]) == 0
        (_, attested, body), (_, closed, _) = newest(box, 2)
        assert (attested, closed) == ("attested", "day_closed")
        said = msgspec.convert(cbor.decode(body, size_max=65_536), AttestedEntry)
        if is_away:
            assert (said.missing, said.digest, said.attestation) == ("tpm_away", None, None)
            return
        assert said.attestation is not None
        assert said.digest == hashlib.sha256(said.attestation.quote).digest()
        assert said.attestation.nonce == root_of(box, said.size), "made when the log had this head, and not before"
        whole = msgspec.structs.replace(
            said.attestation,
            certificate=box.box.attestation.read_bytes(),
            endorsement_certificate=box.box.bundle.ek_certificate,
        )
        trust = load_trust(box.box.trust.read_bytes())
        assert judge(whole, Demand(trust=trust, nonce=whole.nonce), Steps()).origin == box.audience


def newest(box: RunningBox, count: int) -> list[tuple[int, str, bytes]]:
    """Seq, kind and body of the last entries."""
    with closing(sqlite3.connect(f"file:{box.box.data / 'ledger.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT entry FROM entries ORDER BY seq DESC LIMIT ?", (count,)).fetchall()
    return [(entry.seq, entry.kind, entry.body) for entry in (decode(bytes(row[0])) for row in reversed(rows))]


def root_of(box: RunningBox, size: int) -> bytes:
    """Of the tree of the first entries, as a verifier computes it."""
    with open_folder(box.box.data) as folder:
        return verify_log(folder.entries(size), owner=load_trust(box.box.trust.read_bytes()).owner).root
