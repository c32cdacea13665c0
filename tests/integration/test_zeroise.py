"""The end of a box's secrets, on a real SoftHSM and a real swtpm: nothing opens afterwards, and that is proven."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR

from appliance.adapters.hsm_link import HsmAddress, HsmLink
from appliance.adapters.tpm_sealer import TpmSealer
from appliance.adapters.zeroise import zeroise
from appliance.model.errors import Corrupt
from drivers.hsm.errors import KeyMissing
from drivers.hsm.keys import Algorithm, KeyRef, Purpose, find_private_key, generate_aes_key, generate_signing_key
from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmForeign
from drivers.tpm.forget import Forgotten, forget
from drivers.tpm.seal import unseal
from tests.fakes.clock import FakeClock
from tests.softhsm import LABEL, LIBRARY_PATH, SoftHsm, soft_hsm
from tests.swtpm import ProvisionedTpm, make_template, plugged_tpm


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def tpm(template: Path, tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    with soft_hsm(tmp_path, monkeypatch) as made:
        yield made


def link_to(hsm: SoftHsm) -> HsmLink:
    hsm.library().reinitialise()
    address = HsmAddress(library_path=LIBRARY_PATH, token_label=LABEL, token_serial=None)
    return HsmLink(address=address, pin=hsm.pin, clock=FakeClock(), random=random.Random(1).random)


async def test_keys_pin_and_files_are_gone_and_again_is_the_same(
    hsm: SoftHsm, tpm: ProvisionedTpm, tmp_path: Path
) -> None:
    session = hsm.open_session()
    public = generate_signing_key(session, Algorithm.P256, key_id=b"\x01", label="log, classical")
    generate_aes_key(session, key_id=b"\x02", label="wrapping")
    secret = tmp_path / "api-key"
    secret.write_bytes(b"sk_test_ofATest1\n")
    files = (secret, tmp_path / "never-made")
    link, sealer = link_to(hsm), TpmSealer(tcti=tpm.tcti, bundle=tpm.bundle, deadline_ms=10_000)
    try:
        done = await zeroise(link=link, sealer=sealer, files=files)
        assert (done.objects, done.files, done.failures) == (3, (secret,), ())
        assert done.tpm.startswith("cleared")
        assert await asyncio.to_thread(secret.read_bytes) == bytes(17)
        with pytest.raises(Corrupt) as gone:
            await sealer.unseal()
        assert gone.value.code == "tpm_foreign"
        again = await zeroise(link=link, sealer=sealer, files=files)
        assert (again.objects, again.is_proven) == (0, True)
    finally:
        await link.close()
        await sealer.close()
    with pytest.raises(KeyMissing):
        find_private_key(
            hsm.open_session(), KeyRef(key_id=b"\x01", public_sha256=hashlib.sha256(public).digest()), Purpose.SIGN
        )


async def test_a_token_that_is_away_is_told_and_the_rest_is_done(
    hsm: SoftHsm, tpm: ProvisionedTpm, tmp_path: Path
) -> None:
    link, sealer = link_to(hsm), TpmSealer(tcti=tpm.tcti, bundle=tpm.bundle, deadline_ms=10_000)
    await asyncio.to_thread(hsm.unplug)
    try:
        done = await zeroise(link=link, sealer=sealer, files=(tmp_path / "none",))
    finally:
        await link.close()
        await sealer.close()
    assert done.objects is None
    assert done.tpm.startswith("cleared")
    assert [failure.split(":")[0] for failure in done.failures] == ["hsm_away"]


def test_a_tpm_that_refuses_to_be_cleared_forgets_by_its_floor(tpm: ProvisionedTpm) -> None:
    bundle = tpm.bundle
    with closing(TpmContext(tpm.tcti)) as context:
        with context.commands() as esapi:
            esapi.hierarchy_change_auth(ESYS_TR.LOCKOUT, b"somebody else's")
        assert forget(context, bundle) is Forgotten.REVOKED
        assert forget(context, bundle) is Forgotten.REVOKED
        with pytest.raises(TpmForeign):
            unseal(
                context,
                bundle.sealed,
                srk_handle=bundle.srk_handle,
                srk_name=bundle.srk_name,
                policies=bundle.policies,
            )


def test_the_old_seed_does_not_come_back_with_the_power(tpm: ProvisionedTpm) -> None:
    with closing(TpmContext(tpm.tcti)) as context:
        assert forget(context, tpm.bundle) is Forgotten.CLEARED
    tpm.plugged.power_cycle()
    with closing(TpmContext(tpm.tcti)) as context:
        assert not context.holds(tpm.bundle.srk_handle)
        assert forget(context, tpm.bundle) is Forgotten.CLEARED
