"""Owns the promises of a bench box: the machine's own TPM holds the PIN, and the process takes its settings."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from appliance.config.load import load
from drivers.tpm.bundle import decode_bundle
from drivers.tpm.context import TpmContext
from drivers.tpm.seal import unseal
from provisioning.bench import make_bench
from tests.swtpm import PluggedTpm, make_template


def test_a_bench_box_seals_its_pin_in_the_tpm_that_is_there(tmp_path: Path) -> None:
    tpm = PluggedTpm(make_template(tmp_path / "machine-tpm"))
    folder = tmp_path / "box"
    make_bench(folder, tpm.tcti)
    made = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    settings = load(folder / "tillstone.toml")
    assert settings.tpm is not None
    assert settings.tpm.tcti == tpm.tcti
    assert settings.pos.host == "0.0.0.0"
    assert not (folder / "tpm").exists()
    bundle = decode_bundle(settings.tpm.bundle_path.read_bytes())
    with closing(TpmContext(tpm.tcti)) as context:
        pin = unseal(
            context, bundle.sealed, srk_handle=bundle.srk_handle, srk_name=bundle.srk_name, policies=bundle.policies
        )
    assert len(pin) == 32

    make_bench(folder, tpm.tcti)
    again = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert again == made
    tpm.cut_power()
