"""The vault: what may happen while a person is being erased."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.crypto.disclosure import commit
from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.draft import Disclosure, Draft
from appliance.model.errors import Unavailable

SUBJECT = "customer:1"
SALT = bytes(16)


def draft_about(subject: str) -> Draft:
    value = Disclosure(name="customer", salt=SALT, value=b"1", subject=subject)
    return Draft(kind="sale", actor="box", time_ms=0, body=b"\xa1" + commit(SALT, b"1"), disclosures=(value,))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[DisclosureVault]:
    opened = DisclosureVault(tmp_path, bytes(32))
    yield opened
    opened.close()


async def test_a_key_looked_up_when_its_erasure_began_is_never_used_again(vault: DisclosureVault) -> None:
    drafts = (draft_about(SUBJECT),)
    # The look-up is under way when the erasure begins: it finds the key that is about to be forgotten.
    looked_up, key_ids = await asyncio.gather(
        vault.load_keys(drafts), vault.begin_erasure(SUBJECT), return_exceptions=True
    )
    assert isinstance(looked_up, Unavailable)
    assert isinstance(key_ids, tuple)
    await vault.forget(key_ids)
    vault.end_erasure(SUBJECT)
    assert vault.seal_now(drafts) is None, "the forgotten key is not in the cache"
    await vault.load_keys(drafts)
    (sealed,) = vault.seal_now(drafts) or ()
    assert sealed.key_id not in key_ids
    assert await vault.open([(sealed.name, sealed.key_id, sealed.ciphertext)])


async def test_nothing_is_sealed_for_a_person_who_is_being_erased(vault: DisclosureVault) -> None:
    await vault.load_keys([draft_about(SUBJECT)])
    await vault.begin_erasure(SUBJECT)
    assert vault.seal_now([draft_about(SUBJECT)]) is None
    with pytest.raises(Unavailable, match="subject_being_erased"):
        await vault.load_keys([draft_about(SUBJECT)])
    with pytest.raises(Unavailable, match="subject_being_erased"):
        await vault.begin_erasure(SUBJECT)
