"""The witness server on a real PostgreSQL: exact statuses, nothing forgotten by kill -9, no race, keys kept tight."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from appliance.crypto import signature
from appliance.evidence.add_checkpoint import BODY_BYTES_MAX, SIZE_TYPE, AddCheckpoint, origin_hash
from appliance.ledger.log_keys import Distrust
from appliance.ledger.succession import DISTRUST, distrust_statement
from appliance.ledger.trust import Evidence, encode_evidence
from appliance.model.errors import Rejected
from provisioning.upstream.witness_keys import open_witness_keys
from tests.fakes.clock import START_MS
from tests.postgres import Postgres, running_postgres
from tests.unit.ledger.shop import genesis, owner
from tests.upstream import NAME, WitnessedLog, WitnessProcess, post_quantum, witnessed_log


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def server(tmp_path: Path, dsn: str) -> Iterator[WitnessProcess]:
    process = WitnessProcess(tmp_path / "witness", dsn)
    yield process
    process.kill()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[WitnessedLog]:
    async with witnessed_log(tmp_path / "ledger") as log:
        yield log


async def post(server: WitnessProcess, body: bytes) -> tuple[int, str, bytes]:
    async with aiohttp.ClientSession() as http, http.post(f"{server.url}/add-checkpoint", data=body) as response:
        return response.status, response.content_type, await response.read()


async def ask(server: WitnessProcess, old_size: int, note: bytes, proof: tuple[bytes, ...] = ()) -> int:
    status, _, _ = await post(server, AddCheckpoint(old_size=old_size, proof=proof, note=note).encode())
    return status


async def test_every_refusal_has_the_status_of_the_specification(
    server: WitnessProcess, log: WitnessedLog, tmp_path: Path
) -> None:
    note = await log.grow(3)
    assert await ask(server, 6, note) == 400
    assert (await post(server, b"nonsense"))[0] == 400
    assert (await post(server, b"old 05\n\n" + note))[0] == 400
    assert (await post(server, b"x" * (BODY_BYTES_MAX + 1)))[0] == 413
    assert await ask(server, 0, note.replace(b"SN-1", b"SN-2")) == 404
    assert await ask(server, 0, note.replace(b"\n5\n", b"\n6\n")) == 403
    assert await ask(server, 0, note) == 200
    status, content_type, body = await post(server, AddCheckpoint(old_size=0, proof=(), note=note).encode())
    assert (status, content_type, body) == (409, SIZE_TYPE, b"5\n")
    assert await ask(server, 5, await log.grow(2), (bytes(32),)) == 422


async def test_a_head_by_a_distrusted_key_is_vouched_for_up_to_the_owners_size(
    dsn: str, log: WitnessedLog, tmp_path: Path
) -> None:
    key_id = signature.key_id(post_quantum().public_key)
    said = Distrust(log_id=genesis().log_id, key_id=key_id, size=5, before_ms=START_MS)
    evidence = Evidence(logs=(genesis(),), distrusted=(owner().sign(DISTRUST, distrust_statement(said)),))
    server = WitnessProcess(tmp_path / "witness", dsn, trust=encode_evidence(owner().public, evidence))
    try:
        assert await ask(server, 0, await log.grow(3)) == 200
        note = await log.grow(1)
        assert await ask(server, 5, note, await log.ledger.consistency(5, 6)) == 403
    finally:
        server.kill()


async def test_what_was_answered_survives_the_kill_of_witness_and_database(
    postgres: Postgres, server: WitnessProcess, log: WitnessedLog
) -> None:
    assert await ask(server, 0, await log.grow(3)) == 200
    keys = server.keys
    server.kill()
    await asyncio.to_thread(postgres.kill)
    await asyncio.to_thread(postgres.start)
    server.start()
    assert server.keys == keys
    assert await ask(server, 0, await log.grow(1)) == 409


async def test_two_that_extend_the_same_head_at_once_are_one_after_the_other(
    server: WitnessProcess, log: WitnessedLog
) -> None:
    await ask(server, 0, await log.grow(3))
    notes = [await log.grow(1) for _ in range(8)]
    proofs = [await log.ledger.consistency(5, 6 + index) for index in range(8)]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(server, 5, note, proof)) for note, proof in zip(notes, proofs, strict=True)]
    assert sorted(task.result() for task in asked) == [200] + [409] * 7


async def test_a_lost_database_is_no_answer_and_costs_nothing_but_time(
    postgres: Postgres, server: WitnessProcess, log: WitnessedLog
) -> None:
    note = await log.grow(3)
    await asyncio.to_thread(postgres.kill)
    try:
        assert await ask(server, 0, note) == 503
    finally:
        await asyncio.to_thread(postgres.start)
    assert await ask(server, 0, note) == 200


async def test_both_histories_of_a_fork_are_kept_as_the_logs_own_word(
    server: WitnessProcess, log: WitnessedLog, dsn: str, tmp_path: Path
) -> None:
    await ask(server, 0, await log.grow(3))
    async with witnessed_log(tmp_path / "fork") as fork:
        other = await fork.grow(3, "other")
    assert await ask(server, 5, other) == 409
    connection = await asyncpg.connect(dsn)
    try:
        assert await connection.fetchval("SELECT note FROM witness_conflicts") == other
        assert await connection.fetchval("SELECT size FROM witness_heads") == 5
    finally:
        await connection.close()


async def test_lines_of_strangers_on_a_note_are_not_kept(server: WitnessProcess, log: WitnessedLog) -> None:
    note = await log.grow(3)
    strange = "".join([f"\u2014 {name} AAAAAAAA\n" for name in ("x.example", log.ledger.statement.origin) * 7]).encode()
    assert await ask(server, 0, note + strange) == 200
    url = f"{server.url}/{origin_hash(log.ledger.statement.origin)}/checkpoint"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        shown = await response.read()
    assert shown.startswith(note)
    assert [line.split()[1].decode() for line in shown.removeprefix(note).splitlines()] == [NAME, NAME]


async def set_fsync(dsn: str, change: str, wanted: str) -> None:
    """Change the server's setting; a reload is a signal, so ask until a new connection sees it."""
    for _ in range(1_000):
        connection = await asyncpg.connect(dsn)
        try:
            if await connection.fetchval("SHOW fsync") == wanted:
                return
            await connection.execute(f"ALTER SYSTEM {change} fsync" + (" = off" if change == "SET" else ""))
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
    pytest.fail(f"fsync did not become {wanted}")


async def test_a_database_that_does_not_wait_for_its_disk_is_refused(
    dsn: str, server: WitnessProcess, tmp_path: Path
) -> None:
    await set_fsync(dsn, "SET", "off")
    try:
        done = run_witness(tmp_path, str(tmp_path / "witness/trust.json"), "--postgres", dsn, "--port", "0")
    finally:
        await set_fsync(dsn, "RESET", "on")
    assert done.returncode == 2
    assert "expected fsync = on: a witness must not forget" in done.stderr


def test_keys_are_made_once_with_tight_modes_and_open_ones_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = open_witness_keys(folder, NAME)
    assert open_witness_keys(folder, NAME).vkeys == first.vkeys
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    next(folder.iterdir()).chmod(0o640)
    with pytest.raises(Rejected, match="key_file_too_open"):
        open_witness_keys(folder, NAME)


def test_a_missing_trust_file_is_a_sentence(tmp_path: Path) -> None:
    done = run_witness(tmp_path, str(tmp_path / "none.json"))
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def run_witness(folder: Path, trust: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The command, for a start that is refused."""
    command = [sys.executable, "-m", "provisioning.cli", "upstream", "witness", "--name", NAME]
    files = ["--keys", str(folder / "keys"), "--trust", trust]
    return subprocess.run([*command, *files, *more], capture_output=True, text=True, timeout=60)


def test_a_witness_without_its_database_says_where_that_is_made(tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    trust.write_bytes(encode_evidence(owner().public, Evidence()))
    command = [sys.executable, "-m", "provisioning.cli", "upstream", "witness", "--name", NAME]
    command += ["--keys", str(tmp_path / "keys"), "--trust", str(trust), "--postgres", "postgresql://x@127.0.0.1:1/x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "provisioning/upstream/README.md" in done.stderr
