"""Owns the promise that the appliance may read what was measured, wherever the image keeps it for root alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.schema import Tpm
from appliance.wiring.attestation import event_logs, image_of
from image.definition import DEFINITION

UNIT = (DEFINITION / "root/usr/lib/systemd/system/tillstone.service").read_text()
TMPFILES = (DEFINITION / "root/usr/lib/tmpfiles.d/tillstone-measured.conf").read_text()
DEVICE = Tpm(tcti="device:/dev/tpmrm0", bundle_path=Path("b"), policy_path=Path("p"))


def test_the_unit_hands_over_what_the_process_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    file = event_logs(DEVICE)
    assert f"LoadCredential={file.userspace.name if file.userspace else ''}:{file.userspace}\n" in UNIT
    assert f"z {file.firmware} 0440 root tillstone\n" in TMPFILES
    assert f"f {file.userspace} 0600 root root\n" in TMPFILES, "without the file the unit would not start"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert event_logs(DEVICE) == file, "where nothing was handed over, the machine's own file is tried"
    (tmp_path / "tpm2-measure.log").touch()
    assert event_logs(DEVICE).userspace == tmp_path / "tpm2-measure.log"


def test_behind_a_software_tpm_no_log_of_the_machine_is_shown() -> None:
    logs = event_logs(Tpm(tcti="swtpm:path=/run/tpm", bundle_path=Path("b"), policy_path=Path("p")))
    assert (logs.firmware, logs.userspace) == (None, None)
    assert "no firmware" in logs.absent


@pytest.mark.parametrize(
    ("os_release", "image"),
    [
        ("ID=debian\nIMAGE_ID=tillstone\nIMAGE_VERSION=0.1.0\n", "tillstone 0.1.0 release"),
        ('IMAGE_ID="tillstone"\nIMAGE_VERSION=0.1.0\nVARIANT_ID=developer\n', "tillstone 0.1.0 developer"),
        ("ID=debian\n", ""),
        ("IMAGE_ID=other\nIMAGE_VERSION=0.1.0\n", ""),
    ],
)
def test_image_is_named_as_its_manifest_names_it(os_release: str, image: str) -> None:
    assert image_of(os_release) == image
