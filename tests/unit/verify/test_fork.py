"""Two boxes with one set of keys: what each of them signed is proof against both."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.crypto import cose, signing_key
from appliance.ledger.checkpoint import Checkpoint, sign_checkpoint
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.receipt import ReceiptBundle
from appliance.ledger.trust import encode_trust
from appliance.ports.signer import Signer
from provisioning.verify.fork_check import check_fork
from tests.fakes.signer import FakeSigner
from tests.unit.ledger.shop import SeededSigner, genesis, open_ledger, owner, running, sale, signers

TRUST = encode_trust(owner().public, [genesis()])


async def sell(ledger: Ledger, *keys: str) -> list[ReceiptBundle]:
    bundles = []
    for key in keys:
        (recorded,) = await ledger.append([sale(key)], purpose=Purpose.OUTCOME)
        bundle = await ledger.receipts([recorded.seq], wait_ms=5_000)
        assert bundle is not None
        bundles.append(bundle)
    return bundles


async def forked(folder: Path) -> tuple[list[ReceiptBundle], list[ReceiptBundle]]:
    """Receipts of a box and of its copy, which was switched on beside it."""
    box, copy = folder / "box", folder / "copy"
    async with running(await open_ledger(box)) as ledger:
        await sell(ledger, "common")
    shutil.copytree(box, copy)
    async with running(await open_ledger(box)) as ledger:
        ours = await sell(ledger, "a1", "a2")
    async with running(await open_ledger(copy)) as ledger:
        theirs = await sell(ledger, "b1", "b2")
    return ours, theirs


def verdict(first: bytes, second: bytes) -> str | None:
    return check_fork(first, second, TRUST).code


async def test_two_receipts_of_one_place_are_proof_whatever_their_sizes(tmp_path: Path) -> None:
    ours, theirs = await forked(tmp_path)
    report = check_fork(ours[0].encode(), theirs[0].encode(), TRUST)
    assert report.ok
    assert (report.facts["seq"], report.facts["sizes"]) == (3, [4, 4])
    async with running(await open_ledger(tmp_path / "box")) as ledger:
        grown = await ledger.receipts([3], wait_ms=5_000)
    assert grown is not None
    assert check_fork(grown.encode(), theirs[0].encode(), TRUST).facts["sizes"] == [5, 4]


async def test_two_heads_of_one_size_are_proof(tmp_path: Path) -> None:
    ours, theirs = await forked(tmp_path)
    assert check_fork(ours[1].encode(), theirs[1].encode(), TRUST).ok
    async with running(await open_ledger(tmp_path / "copy")) as ledger:
        common = await ledger.receipts([2], wait_ms=5_000)
    assert common is not None
    # Both show a common entry, so only the roots differ.
    async with running(await open_ledger(tmp_path / "box")) as ledger:
        also = await ledger.receipts([2], wait_ms=5_000)
    assert also is not None
    report = check_fork(common.encode(), also.encode(), TRUST)
    assert (report.ok, report.facts["seq"]) == (True, None)


async def test_what_may_both_be_true_is_no_proof(tmp_path: Path) -> None:
    ours, theirs = await forked(tmp_path)
    assert verdict(ours[0].encode(), ours[1].encode()) == "fork_not_proven"
    assert verdict(ours[0].encode(), ours[0].encode()) == "fork_not_proven"
    assert verdict(ours[0].encode(), theirs[1].encode()) == "fork_not_proven"


@pytest.mark.parametrize("broken", [0, 1])
async def test_only_what_the_keys_signed_is_proof(tmp_path: Path, broken: int) -> None:
    ours, theirs = await forked(tmp_path)
    files = [ours[0].encode(), theirs[0].encode()]
    files[broken] = files[broken][:-40] + bytes([files[broken][-40] ^ 1]) + files[broken][-39:]
    report = check_fork(files[0], files[1], TRUST)
    assert not report.ok
    assert report.steps[-1].name == ("first file", "second file")[broken]
    assert check_fork(b"", files[1 - broken], TRUST).code == "checkpoint_malformed"
    assert check_fork(files[0], files[1], b"{}").code == "trust_malformed"


async def test_two_checkpoints_of_one_size_are_proof() -> None:
    note = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
    first = Checkpoint(origin="shop.example/SN-1/1", size=9, root=bytes(32))

    async def signed(checkpoint: Checkpoint, by: Signer = note) -> bytes:
        return await sign_checkpoint(checkpoint, note=by, post_quantum=signers().post_quantum)

    honest, other = await signed(first), await signed(replace(first, root=bytes(31) + b"\x01"))
    assert check_fork(honest, other, TRUST).facts["sizes"] == [9, 9]
    assert verdict(honest, await signed(replace(first, size=10))) == "fork_not_proven"
    assert verdict(honest, await signed(first, FakeSigner(cose.ED25519))) == "checkpoint_signature_missing"
    assert verdict(honest, await signed(replace(first, origin="shop.example/SN-2/1"))) == "checkpoint_origin_unknown"
