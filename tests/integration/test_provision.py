"""The ceremony as an installer sees it: two visits with a stick make a box that sells; all else changes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2B_AUTH, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from appliance.crypto.owner import SignedStatement
from appliance.ledger.attestation import CERTIFICATE
from appliance.ledger.trust import load_trust
from drivers.tpm.context import TpmContext
from provisioning.ceremony.run import all_steps
from provisioning.swtpm import make_swtpm
from provisioning.token import TokenPlan, make_token, softhsm_environment, write_softhsm_configuration
from tests.integration.box import refused_with, require_devices
from tests.integration.ceremony import SECRET, Owner, ProvisionedBox, Said, Visit, command
from tests.integration.till import CASH, paired_till
from tests.swtpm import make_template, plugged_tpm

STEPS = [step.name for step in all_steps()]
IMPATIENT = """
from provisioning.ceremony import install
from provisioning.cli import main
install.STATE_KEY_S_MAX = 0.0
raise SystemExit(main())
"""


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    require_devices()
    return Owner(tmp_path_factory.mktemp("owner") / "computer")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A box after its first visit."""
    require_devices()
    visit = Visit(tmp_path_factory.mktemp("asked"))
    assert visit.provision().code == 0
    return visit


@pytest.fixture(scope="module")
def made(asked: Visit, owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A box after its second visit; whoever changes it takes a copy."""
    visit = copy_of(asked, tmp_path_factory.mktemp("made"))
    assert owner.sign(visit.stick).code == 0
    said = visit.provision()
    assert said.code == 0, said.errors
    return visit


@pytest.fixture
def waiting(asked: Visit, tmp_path: Path) -> Visit:
    """A box of its own that waits for its answer."""
    return copy_of(asked, tmp_path)


def copy_of(visit: Visit, folder: Path) -> Visit:
    copied = Visit(folder)
    copied.stick.rmdir()
    left_out = shutil.ignore_patterns("socket*", ".lock", "*.sock")
    shutil.copytree(visit.box.parent, folder, dirs_exist_ok=True, ignore=left_out)
    # SoftHSM's configuration and the settings name folders of the box: a box does not move, but a test's does.
    for path in (copied.box / "token" / "softhsm2.conf", copied.box / "tillstone.toml", copied.box / "box.json"):
        if path.exists():
            path.write_text(path.read_text().replace(str(visit.box), str(copied.box)))
    return copied


def refused(visit: Visit) -> Said:
    """What a provisioning says that changes nothing."""
    before = visit.content()
    said = visit.provision()
    assert said.code == 2
    assert visit.content() == before
    assert SECRET not in said.errors
    return said


def test_two_visits_make_a_box_that_sells(made: Visit, tmp_path: Path) -> None:
    visit = copy_of(made, tmp_path)
    settings = tomllib.loads((visit.box / "tillstone.toml").read_text())
    assert settings["escrow"] == {"recipient_path": "files/recovery.pub"}
    assert (visit.box / "files" / "stripe-key").read_text() == SECRET + "\n"
    assert (visit.box / "files" / "stripe-key").stat().st_mode & 0o777 == 0o600
    assert "Address=192.0.2.10/24" in (visit.box / "network" / "10-site.conf").read_text()
    running = ProvisionedBox(tmp_path)
    try:
        running.start()
        till = paired_till(running, tmp_path, "till-1")
        assert till.ask("payment", CASH).status == 200
    finally:
        running.close()


def test_a_box_of_a_ceremony_can_be_retired_and_is_not_provisioned_again(made: Visit, tmp_path: Path) -> None:
    visit = copy_of(made, tmp_path)
    serial = made.provision("--json").json["serial"]
    said = command("retire", "--dir", visit.box, "--yes", serial, "--json")
    assert said.code == 0, said.out + said.errors
    assert (said.json["proven"], said.json["token"]) == (True, "initialised again: empty")
    assert not (visit.box / "files" / "stripe-key").read_bytes().strip(b"\0")
    assert "box_retired" in visit.provision().errors


def test_the_stick_never_holds_a_secret(made: Visit) -> None:
    assert {path.name for path in made.stick.iterdir()} == {
        *("box.request", "site.toml", "site.cbor", "genesis.cbor", "trust.json", "transcript.cbor")
    }
    assert not [path for path in made.stick.iterdir() if SECRET.encode() in path.read_bytes()]


def test_provisioning_twice_changes_nothing(made: Visit) -> None:
    before = made.content()
    said = made.provision("--json")
    assert said.code == 0
    assert [step["state"] for step in said.json["steps"]] == ["done"] * len(STEPS)
    assert made.content() == before


def test_a_first_visit_twice_asks_the_same(waiting: Visit) -> None:
    before, request = waiting.content(), (waiting.stick / "box.request").read_bytes()
    said = waiting.provision("--json").json
    assert (waiting.content(), (waiting.stick / "box.request").read_bytes()) == (before, request)
    assert said["open"] is False
    assert said["request"] == hashlib.sha256(request).hexdigest()


def test_the_transcript_proves_how_the_box_was_made(made: Visit, owner: Owner, tmp_path: Path) -> None:
    trust = made.stick / "trust.json"
    said = command("provision", "verify", made.stick / "transcript.cbor", "--trust", trust, "--json").json
    assert (said["ok"], said["origin"].split("/")[0]) == (True, "bakery.example")
    facts = {step["name"]: step["facts"] for step in said["steps"]}
    assert list(facts) == STEPS[: STEPS.index("transcript")]
    for key in ("classical", "wrapping"):
        asserted = facts["attributes"][key]
        assert (asserted["SENSITIVE"], asserted["NEVER_EXTRACTABLE"], asserted["EXTRACTABLE"]) == (True, True, False)
    word = (made.box / "attestation.cbor").read_bytes()
    SignedStatement.decode(word).verify(load_trust(trust.read_bytes()).owner, CERTIFICATE)
    assert facts["attestation"]["certificate_sha256"] == hashlib.sha256(word).hexdigest()
    assert facts["site"]["owner"] == load_trust(trust.read_bytes()).owner.fingerprint
    edited = bytearray((made.stick / "transcript.cbor").read_bytes())
    edited[edited.index(b"TS-") + 3] ^= 1
    (tmp_path / "edited").write_bytes(edited)
    for trusted in (trust, owner.folder / "key" / "trust.json"):
        assert command("provision", "verify", tmp_path / "edited", "--trust", trusted, "--json").code == 1


def test_a_dry_run_says_each_step_and_touches_nothing(waiting: Visit, owner: Owner, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    said = command("provision", "--dir", nowhere, "--dry-run", "--json").json
    assert [(step["step"], step["state"]) for step in said["steps"]] == [(name, "to do") for name in STEPS]
    assert not nowhere.exists()
    assert owner.sign(waiting.stick).code == 0
    tpm = {path: path.stat().st_mtime_ns for path in (waiting.box / "tpm").rglob("*")}
    before = waiting.content()
    said = waiting.provision("--dry-run", "--json").json
    assert said["answer"] is True
    assert [step["state"] for step in said["steps"]].count("done") == STEPS.index("site")
    assert waiting.content() == before
    assert {path: path.stat().st_mtime_ns for path in (waiting.box / "tpm").rglob("*")} == tpm


def test_of_two_installers_at_once_one_is_refused(waiting: Visit) -> None:
    descriptor = os.open(waiting.box / ".ceremony.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert "another installer works on" in refused(waiting).errors
    finally:
        os.close(descriptor)


def test_an_unsigned_site_changes_nothing(waiting: Visit, owner: Owner) -> None:
    shutil.copy(owner.site, waiting.stick / "site.toml")
    said = refused(waiting)
    assert "site_unsigned" in said.errors
    assert "trust.json: " in said.errors, "everything that is missing is named at once"


def test_a_site_of_another_owner_changes_nothing(waiting: Visit, owner: Owner, tmp_path: Path) -> None:
    other = Owner(tmp_path / "other")
    assert owner.sign(waiting.stick).code == 0
    shutil.copy(other.folder / "key" / "trust.json", waiting.stick / "trust.json")
    assert "site.cbor: " in refused(waiting).errors


def test_a_site_for_another_box_changes_nothing(waiting: Visit, owner: Owner, tmp_path: Path) -> None:
    neighbour = Visit(tmp_path / "neighbour")
    assert neighbour.provision().code == 0
    assert owner.sign(neighbour.stick).code == 0
    for name in ("site.toml", "site.cbor", "genesis.cbor", "trust.json"):
        shutil.copy(neighbour.stick / name, waiting.stick / name)
    assert "site_not_ours" in refused(waiting).errors


def test_a_site_that_was_edited_after_signing_changes_nothing(waiting: Visit, owner: Owner) -> None:
    assert owner.sign(waiting.stick).code == 0
    site = waiting.stick / "site.toml"
    site.write_text(site.read_text().replace("192.0.2.1", "192.0.2.9"))
    assert "site_changed" in refused(waiting).errors


def test_the_owner_signs_no_site_with_a_fault_and_is_told_all_of_them(waiting: Visit, owner: Owner) -> None:
    faulty = owner.folder / "faulty.toml"
    text = owner.site.read_text().replace('"EUR"', '"Euro"').replace('192.0.2.1"\ndns', '198.51.100.1"\ndns')
    faulty.write_text(text.replace("files/stripe-key", "elsewhere/key") + '\n[tpm]\ntcti = "x"\n[typo]\n')
    said = owner.sign(waiting.stick, site=faulty)
    assert said.code == 2
    for place in ("shop.currency", "network.gateway", "provider.stripe.api_key_path", "tpm: ", "typo"):
        assert place in said.errors, said.errors
    assert not (waiting.stick / "site.cbor").exists()


def test_a_tpm_that_has_an_owner_is_refused(tmp_path: Path) -> None:
    template = make_template(tmp_path / "template")
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        with closing(TpmContext(plugged.tcti)) as tpm, tpm.commands() as esapi:
            esapi.hierarchy_change_auth(ESYS_TR.OWNER, TPM2B_AUTH(b"somebody's"))
        said = command("provision", "--dir", tmp_path / "box", "--tcti", plugged.tcti)
    assert said.code == 2
    assert "tpm_owned" in said.errors


def test_an_answer_for_another_start_up_is_refused_and_a_new_request_is_on_the_stick(
    owner: Owner, tmp_path: Path
) -> None:
    visit = Visit(tmp_path / "visit")
    with plugged_tpm(make_template(tmp_path / "template"), tmp_path / "tpm") as plugged:
        arguments = ("provision", "--dir", visit.box, "--stick", visit.stick, "--tcti", plugged.tcti)
        assert command(*arguments).code == 0
        asked = (visit.stick / "box.request").read_bytes()
        assert owner.sign(visit.stick).code == 0
        digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(range(32))))
        with closing(TpmContext(plugged.tcti)) as tpm, tpm.commands() as esapi:
            esapi.pcr_extend(ESYS_TR.PCR7, TPML_DIGEST_VALUES(digests=[digest]))
        said = command(*arguments)
        assert said.code == 2
        assert "site_not_ours" in said.errors
        assert (visit.stick / "box.request").read_bytes() != asked
        assert owner.sign(visit.stick).code == 0
        said = command(*arguments, "--json")
        assert said.json["open"] is True, said.errors


@pytest.fixture
def moved(made: Visit, tmp_path: Path) -> Iterator[ProvisionedBox]:
    """A provisioned box whose devices a test may change before it starts."""
    copy_of(made, tmp_path)
    box = ProvisionedBox(tmp_path)
    try:
        yield box
    finally:
        box.close()


def test_a_tpm_that_is_not_the_provisioned_one_is_refused_by_name(moved: ProvisionedBox) -> None:
    moved.power_off()
    shutil.rmtree(moved.box.tpm)
    make_swtpm(moved.box.tpm)
    moved.power_cycle()
    assert refused_with(moved) == "tpm_foreign"


def test_a_token_that_is_not_the_provisioned_one_is_refused_by_name(moved: ProvisionedBox) -> None:
    shutil.rmtree(moved.box.token)
    write_softhsm_configuration(moved.box.token)
    plan = TokenPlan(module_path=str(moved.box.module), label="tillstone", so_pin="12345678", user_pin="12345678")
    make_token(plan, environment=softhsm_environment(moved.box.token))
    assert refused_with(moved) == "hsm_pin_refused"


def test_the_sealed_recovery_key_goes_to_the_owner_and_into_the_transcript(
    waiting: Visit, owner: Owner, tmp_path: Path
) -> None:
    # The image's unit, which is root, leaves it there while the ceremony goes on; its making has tests of its own.
    sealed = tmp_path / "sealed"
    sealed.write_bytes(b"for the owner alone")
    assert owner.sign(waiting.stick).code == 0
    assert waiting.provision("--state-key", sealed).code == 0
    assert (waiting.box / "recovery.pub").read_bytes() == (owner.folder / "recovery.pub").read_bytes()
    assert (waiting.stick / "state-key.sealed").read_bytes() == sealed.read_bytes()
    said = command("provision", "verify", waiting.stick / "transcript.cbor", "--trust", waiting.stick / "trust.json")
    assert hashlib.sha256(sealed.read_bytes()).hexdigest() in said.out


def test_a_box_does_not_open_before_its_recovery_key_is_made(waiting: Visit, owner: Owner, tmp_path: Path) -> None:
    assert owner.sign(waiting.stick).code == 0
    sealed = tmp_path / "sealed"
    arguments = [str(word) for word in (*waiting.arguments, "--state-key", sealed)]
    done = subprocess.run([sys.executable, "-c", IMPATIENT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "recovery key" in done.stderr
    assert not (waiting.box / "tillstone.toml").exists()
    sealed.write_bytes(b"for the owner alone")
    assert waiting.provision("--state-key", sealed).code == 0
    assert (waiting.box / "tillstone.toml").exists()
