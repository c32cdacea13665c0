"""The frozen publication of docs/formats/publication.md: made again and read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from appliance.crypto import hpke
from appliance.evidence.car import write_car
from appliance.evidence.cid import cid_text, parse_cid, raw_cid
from appliance.evidence.publication import Evidence, make_publication, open_content_key, read_publication
from appliance.evidence.publication_root import Scope, Sealing, TileAt

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "publication.json").read_text())


def octets(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


def test_the_frozen_publication_is_made_and_read_as_ever() -> None:
    scope = Scope(origin=VECTOR["origin"], first=VECTOR["first"], end=VECTOR["end"])
    recipient = hpke.Recipient(hpke.public_key_of(octets("auditor_seed")))
    assert recipient.key_id == octets("auditor_public_key_sha256")
    assert scope.info() == octets("seal_info")
    entries = [bytes.fromhex(entry) for entry in VECTOR["entries"]]
    car = make_publication(
        scope,
        evidence=Evidence(
            checkpoint=octets("checkpoint"),
            size=VECTOR["size"],
            consistency=tuple(bytes.fromhex(item) for item in VECTOR["consistency"]),
        ),
        tiles={TileAt(level=0, number=0, width=4): octets("tile_0_0_4")},
        entries=entries,
        sealing=Sealing(recipient=recipient.key_id, seal=octets("seal")),
        content_key=octets("content_key"),
        previous=parse_cid(VECTOR["previous"]),
    )
    assert cid_text(car.root) == VECTOR["root"]
    assert car.blocks[car.root] == octets("root_block")
    assert car.blocks[raw_cid(octets("chunk"))] == octets("chunk")
    file = write_car(car)
    assert (len(file), hashlib.sha256(file).hexdigest()) == (VECTOR["car_bytes"], VECTOR["car_sha256"])
    read = read_publication(car)
    assert list(read.entries(open_content_key(read.root, octets("auditor_seed")))) == entries
