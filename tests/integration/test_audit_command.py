"""`tillstone audit` on what a box published: entries for the auditor, the public part for all, else a code."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from pathlib import Path
from typing import Any

import cbor2
import pytest

from appliance.crypto import hpke
from appliance.crypto.owner import OwnerKey
from appliance.evidence import dag_cbor
from appliance.evidence.car import Block, Car, car_of, dag_cbor_block, raw_block, read_car, write_car
from appliance.evidence.cid import cid_text
from appliance.ledger.trust import encode_trust
from provisioning.cli import main
from tests.integration.press import AUDITOR, press
from tests.unit.ledger.shop import genesis, owner


class Desk:
    """The auditor's desk: CAR files, his key, the trust file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust = folder / "trust.json"
        self.key = folder / "auditor.key"
        self.trust.write_bytes(encode_trust(owner().public, [genesis()]))
        self.key.touch(mode=0o600)
        self.key.write_bytes(base64.b64encode(AUDITOR) + b"\n")
        self.cars: list[Path] = []

    def put(self, car: Car) -> Path:
        path = self.folder / f"{len(self.cars)}.car"
        path.write_bytes(write_car(car))
        self.cars.append(path)
        return path

    def open(self, *more: str, cars: list[Path] | None = None) -> int:
        files = [str(car) for car in (self.cars if cars is None else cars)]
        return main(["audit", "open", *files, "--trust", str(self.trust), *more])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Car, list[bytes]]]:
    """Three publications of one log, with the entries that each must hold."""
    return asyncio.run(_publish(tmp_path_factory.mktemp("box")))


async def _publish(folder: Path) -> list[tuple[Car, list[bytes]]]:
    found = []
    async with press(folder) as box:
        for count in (300, 1, 700):
            await box.log.grow(count)
            async with box.running() as publisher:
                await publisher.step()
        entries = await box.entries()
        for cid in await box.roots():
            car = Car(cid, box.fetched(cid))
            scope = dag_cbor.decode(car.blocks[cid], size_max=1 << 20)
            assert isinstance(scope, dict)
            found.append((car, entries[int(str(scope["first"])) : int(str(scope["end"]))]))
    return found


@pytest.fixture
def desk(tmp_path: Path, published: list[tuple[Car, list[bytes]]]) -> Desk:
    desk = Desk(tmp_path)
    for car, _ in published:
        desk.put(car)
    return desk


def test_the_auditor_gets_every_entry_in_order(desk: Desk, published: list[tuple[Car, list[bytes]]]) -> None:
    output = desk.folder / "entries.cbor"
    assert desk.open("--key", str(desk.key), "-o", str(output)) == 0
    expected = [entry for _, entries in published for entry in entries]
    assert output.read_bytes() == b"".join(expected)
    # Any CBOR reader takes the file apart.
    with output.open("rb") as file:
        decoder = cbor2.CBORDecoder(file)
        assert [decoder.decode()[1] for _ in expected] == list(range(len(expected)))


def test_anybody_checks_the_public_part(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.open("--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["is_opened"] for each in answer["publications"]] == [False] * 3
    assert answer["publications"][0]["root"].startswith("bafyrei")


def test_a_publication_alone_is_enough(desk: Desk) -> None:
    assert desk.open("--key", str(desk.key), cars=desk.cars[1:2]) == 0


def refused(desk: Desk, capsys: pytest.CaptureFixture[str], *more: str, cars: list[Path] | None = None) -> str:
    """The code of a refusal, which leaves no file behind."""
    output = desk.folder / "refused.cbor"
    assert desk.open("--json", "--key", str(desk.key), "-o", str(output), *more, cars=cars) == 1
    assert not output.exists()
    return str(json.loads(capsys.readouterr().out)["code"])


def test_another_key_opens_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.key.write_bytes(base64.b64encode(bytes(32)))
    assert refused(desk, capsys) == "seal_refused"


def test_another_owner_vouches_for_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.trust.write_bytes(encode_trust(OwnerKey.generate().public, []))
    assert refused(desk, capsys) == "publication_log_unknown"


def test_a_publication_left_out_is_noticed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(desk, capsys, cars=[desk.cars[0], desk.cars[2]]) == "publication_gap"
    assert refused(desk, capsys, cars=[desk.cars[1], desk.cars[0]]) == "publication_gap"


def rewritten(car: Car, **fields: object) -> Car:
    """The same blocks under a root that says something else; new blocks come as `Block` values of links."""
    old: Any = dag_cbor.decode(car.blocks[car.root], size_max=1 << 20)
    root = dag_cbor_block(old | fields)
    rest = [Block(cid, content) for cid, content in car.blocks.items() if cid != car.root]
    return car_of(root.cid, [root, *rest])


def changed_tile(car: Car) -> Car:
    fields: Any = dag_cbor.decode(car.blocks[car.root], size_max=1 << 20)
    tiles = fields["tiles"]
    hashes = bytearray(car.blocks[tiles[0][3].cid])
    hashes[0] ^= 1
    other = raw_block(bytes(hashes))
    tiles[0][3] = dag_cbor.Link(other.cid)
    made = rewritten(car, tiles=tiles)
    return Car(made.root, made.blocks | {other.cid: other.content})


def shrunken(car: Car) -> Car:
    fields: Any = dag_cbor.decode(car.blocks[car.root], size_max=1 << 20)
    return rewritten(car, tiles=fields["tiles"][:-1])


CHANGES = {
    "a hash in a tile": (changed_tile, "publication_tiles_wrong"),
    "a tile left out": (shrunken, "publication_tiles_wrong"),
    "another origin": (lambda car: rewritten(car, origin="other.example/SN-1/1"), "publication_log_unknown"),
    "another size": (lambda car: rewritten(car, size=5_000), "publication_not_in_log"),
    "another proof": (lambda car: rewritten(car, consistency=[bytes(32)]), "publication_not_in_log"),
    "another seal": (lambda car: rewritten(car, seal=bytes(1713)), "seal_refused"),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_publication_is_refused(
    desk: Desk, published: list[tuple[Car, list[bytes]]], capsys: pytest.CaptureFixture[str], change: Any, code: str
) -> None:
    path = desk.put(change(published[0][0]))
    assert refused(desk, capsys, cars=[path]) == code


def test_a_flipped_bit_anywhere_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    car = desk.cars[1].read_bytes()
    for at in range(3, len(car), len(car) // 40):
        desk.cars[1].write_bytes(car[:at] + bytes((car[at] ^ 0x10,)) + car[at + 1 :])
        refused(desk, capsys, cars=desk.cars[1:2])


def test_a_key_pair_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    assert main(["audit", "key", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    recipient = hpke.read_recipient((tmp_path / "key.pub").read_bytes())
    seed = base64.b64decode(file.read_bytes())
    assert hpke.open_sealed(seed, recipient.seal(b"x", b""), b"") == b"x"
    assert recipient.key_id.hex() in capsys.readouterr().out
    assert main(["audit", "key", str(file)]) == 2
    assert base64.b64decode(file.read_bytes()) == seed


def test_wrong_arguments_say_what_to_do(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.open("-o", str(desk.folder / "x")) == 2
    assert "--key" in capsys.readouterr().err
    assert desk.open(cars=[desk.folder / "none.car"]) == 2
    assert desk.open("--key", str(desk.trust)) == 2
    assert cid_text(read_car(desk.cars[0].read_bytes()).root).startswith("b")
