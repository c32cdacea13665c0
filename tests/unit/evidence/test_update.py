"""The update file: who may take it, and every way in which it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.crypto.owner import OwnerKey, SignedStatement
from appliance.evidence.update import (
    LEAP_MAX,
    Installed,
    PcrPolicy,
    UpdatePart,
    UpdateStatement,
    read_update_statement,
    require_update,
)
from appliance.evidence.update_file import UpdateStream
from appliance.model.errors import Rejected
from tests.update_kit import FLOOR, MODEL, NEW, OLD, image, statement_of, update_file

RELEASE = image(NEW)
INSTALLED = Installed(model=MODEL, version=OLD, floor=FLOOR)


@pytest.fixture(scope="module")
def owner() -> OwnerKey:
    return OwnerKey.generate()


@pytest.fixture(scope="module")
def signed_file(owner: OwnerKey) -> bytes:
    return update_file(RELEASE, owner)


def taken(file: bytes, owner: OwnerKey, step: int = 4096) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}

    def take(part: str, content: bytes) -> None:
        parts[part] = parts.get(part, b"") + content

    stream = UpdateStream(lambda signed: require_update(signed, owner.public, INSTALLED), take)
    for begins in range(0, len(file), step):
        stream.feed(file[begins : begins + step])
    stream.finish()
    return parts


@pytest.mark.parametrize("step", [700, 4096, 1 << 20])
def test_signed_update_is_taken_whole_whatever_the_pieces(owner: OwnerKey, signed_file: bytes, step: int) -> None:
    parts = taken(signed_file, owner, step)
    assert parts == {"verity": RELEASE.verity, "root": RELEASE.root, "uki": RELEASE.uki}
    assert list(parts) == ["verity", "root", "uki"]


def test_statement_reads_back_with_its_policies() -> None:
    policy = PcrPolicy(pcrs=(0, 7, 11), version=5, approved=b"a" * 32, signature=b"s", public_key=b"k")
    statement = statement_of(RELEASE, policies=(policy,))
    assert read_update_statement(statement.encode()) == statement


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "another-board"}, "update_wrong_model"),
        ({"number": FLOOR}, "update_older"),
        ({"number": 1}, "update_older"),
        ({"version": OLD}, "update_older"),
        ({"number": FLOOR + LEAP_MAX + 1}, "update_too_far"),
    ],
)
def test_signed_statement_for_another_box_or_an_older_release_is_refused(
    owner: OwnerKey, changes: dict[str, object], code: str
) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(update_file(RELEASE, owner, statement_of(RELEASE, **changes)), owner)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1.1.0+3"},
        {"version": "../../etc"},
        {"version": "a_b"},
        {"version": "1.1.0\n"},
        {"version": "1" * 20},
        {"number": 0},
        {"number": 1 << 31},
        {"root_hash": bytes(31)},
        {"parts": {"root": UpdatePart(size=1, sha256=bytes(32))}},
        {"parts": {**statement_of(RELEASE).parts, "root": UpdatePart(size=(512 << 20) + 1, sha256=bytes(32))}},
        {"parts": {**statement_of(RELEASE).parts, "shell": UpdatePart(size=1, sha256=bytes(32))}},
        {"policies": (PcrPolicy(pcrs=(24,), version=1, approved=b"", signature=b"", public_key=b""),)},
    ],
)
def test_statement_out_of_bounds_is_malformed(owner: OwnerKey, changes: dict[str, object]) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(update_file(RELEASE, None, statement_of(RELEASE, **changes)), owner)
    assert refusal.value.code == "update_malformed"


def test_unsigned_update_is_refused(owner: OwnerKey) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(update_file(RELEASE, None), owner)
    assert refusal.value.code == "update_unsigned"


def test_update_of_another_owner_is_refused(owner: OwnerKey) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(update_file(RELEASE, OwnerKey.generate()), owner)
    assert refusal.value.code == "update_foreign"


def test_another_statement_of_the_owner_is_no_update(owner: OwnerKey) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(update_file(RELEASE, owner, kind="release"), owner)
    assert refusal.value.code == "update_foreign"


def test_signature_of_another_statement_is_refused(owner: OwnerKey) -> None:
    signed = owner.sign("update", statement_of(RELEASE).encode())
    moved = SignedStatement(
        statement=replace(statement_of(RELEASE), number=FLOOR + 2).encode(), owner_signature=signed.owner_signature
    )
    with pytest.raises(Rejected) as refusal:
        require_update(moved, owner.public, INSTALLED)
    assert refusal.value.code == "update_foreign"


def test_truncated_file_is_refused_wherever_it_ends(owner: OwnerKey, signed_file: bytes) -> None:
    for ends in (0, 5, 19, 22, 1000, len(signed_file) // 2, len(signed_file) - len(RELEASE.uki), len(signed_file) - 1):
        with pytest.raises(Rejected) as refusal:
            taken(signed_file[:ends], owner)
        assert refusal.value.code == "update_truncated", ends


def test_changed_byte_of_each_part_is_refused(owner: OwnerKey, signed_file: bytes) -> None:
    for behind in (1, len(RELEASE.uki) + 1, len(RELEASE.uki) + len(RELEASE.root) + 1):
        damaged = bytearray(signed_file)
        damaged[-behind] ^= 1
        with pytest.raises(Rejected) as refusal:
            taken(bytes(damaged), owner)
        assert refusal.value.code == "update_damaged"


@pytest.mark.parametrize("file", [b"PK\x03\x04", b"tillstone-update/2\n", b"tillstone-update/1\n\xff\xff\xff\xff"])
def test_something_else_is_refused_at_once(owner: OwnerKey, file: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(file, owner)
    assert refusal.value.code == "update_malformed"


def test_bytes_behind_the_last_part_are_refused(owner: OwnerKey, signed_file: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        taken(signed_file + b"\0", owner)
    assert refusal.value.code == "update_malformed"


def test_no_part_is_handed_on_before_the_statement_was_judged(signed_file: bytes) -> None:
    handed: list[str] = []

    def judge(signed: SignedStatement) -> UpdateStatement:
        assert not handed
        raise Rejected("update_foreign", "no")

    stream = UpdateStream(judge, lambda part, _content: handed.append(part))
    with pytest.raises(Rejected, match="update_foreign"):
        stream.feed(signed_file)
    assert handed == []
