"""The log's word on an address: by the keys of the day on which it was asked, for no other text, never a checkpoint."""

from __future__ import annotations

import pytest

from appliance.crypto import cose, signing_key
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.evidence.cid import dag_cbor_cid
from appliance.ledger.checkpoint import read_checkpoint, sign_lines
from appliance.ledger.log_keys import Distrust, KeyPeriod, LogKeys
from appliance.ledger.published import published_text, verify_published
from appliance.model.errors import Rejected
from tests.unit.ledger.shop import SeededSigner, genesis

ORIGIN = genesis().read().origin
CID = dag_cbor_cid(b"\xa0")
SIZE = 15


class Keys:
    """The two keys of a period."""

    def __init__(self, seed: int) -> None:
        self.note = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + bytes([seed])))
        self.post_quantum = SeededSigner(signing_key.ml_dsa_87_from_seed(bytes(31) + bytes([seed])))

    def period(self, first_size: int) -> KeyPeriod:
        classical, post_quantum = (
            PinnedKey(algorithm=key.algorithm, public_key=key.public_key) for key in (self.note, self.post_quantum)
        )
        keys = HybridPublic(classical=classical, post_quantum=post_quantum)
        return KeyPeriod(first_size=first_size, keys=keys, note_key=self.note.public_key)

    async def sign(self, size: int = SIZE) -> bytes:
        text = published_text(ORIGIN, size, CID)
        return await sign_lines(text, origin=ORIGIN, note=self.note, post_quantum=self.post_quantum)


OLD, NEW = Keys(11), Keys(12)
LOG = LogKeys(log_id=genesis().log_id, periods=(OLD.period(1), NEW.period(100)))


@pytest.mark.parametrize(("signing", "first_size"), [(OLD, 1), (NEW, 100)], ids=["before", "after_a_rotation"])
async def test_an_address_is_signed_by_the_keys_of_the_day(signing: Keys, first_size: int) -> None:
    period = verify_published(await signing.sign(), origin=ORIGIN, size=SIZE, cid=CID, keys=LOG)
    assert period.first_size == first_size
    key_id = signing.post_quantum.key_id
    distrust = Distrust(log_id=LOG.log_id, key_id=key_id, size=1_000, before_ms=0)
    assert LOG.without([distrust]).distrusts(period)
    assert not LOG.distrusts(period)


async def test_keys_of_two_periods_do_not_make_one_word() -> None:
    old, new = (await OLD.sign()).splitlines(keepends=True), (await NEW.sign()).splitlines(keepends=True)
    for lines in (old[0] + new[1], new[0] + old[1], old[0], b"".join([*old, new[0]]), b""):
        with pytest.raises(Rejected):
            verify_published(lines, origin=ORIGIN, size=SIZE, cid=CID, keys=LOG)


async def test_the_word_is_for_one_log_size_and_address() -> None:
    signed = await NEW.sign()
    for origin, size, cid in ((f"{ORIGIN}1", SIZE, CID), (ORIGIN, SIZE + 1, CID), (ORIGIN, SIZE, dag_cbor_cid(b""))):
        with pytest.raises(Rejected):
            verify_published(signed, origin=origin, size=size, cid=cid, keys=LOG)


async def test_the_signed_text_is_no_checkpoint() -> None:
    with pytest.raises(Rejected, match="checkpoint_malformed"):
        read_checkpoint(published_text(ORIGIN, SIZE, CID) + b"\n" + await NEW.sign())
    assert NEW.note.algorithm == cose.ED25519
