"""Owns the promise that the rig sees a lockout coming: failed tries are counted on a copy, the TPM stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, TPM2_ALG, TPM2B_NV_PUBLIC, TPMA_NV, TPMS_NV_PUBLIC, TSS2_Exception

from provisioning.sandbox.children import end_child
from provisioning.swtpm import make_swtpm, start_swtpm
from tests.rig.cuts import lockout_counter
from tests.swtpm import require_swtpm

INDEX = 0x01800100


def guess_once(tpm: Path) -> None:
    """Try a wrong password on something that the TPM protects against guessing."""
    running = start_swtpm(tpm)
    with ESAPI(running.tcti) as esapi:
        attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE
        public = TPMS_NV_PUBLIC(nvIndex=INDEX, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=8)
        handle = esapi.nv_define_space(b"right", TPM2B_NV_PUBLIC(nvPublic=public))
        esapi.tr_set_auth(handle, b"wrong")
        with pytest.raises(TSS2_Exception):
            esapi.nv_write(handle, b"12345678")
    end_child(running.process)


def test_failed_tries_are_seen_and_looking_counts_none(tmp_path: Path) -> None:
    require_swtpm()
    make_swtpm(tmp_path / "tpm")
    assert lockout_counter(tmp_path) == 0
    guess_once(tmp_path / "tpm")
    state = (tmp_path / "tpm/state/tpm2-00.permall").read_bytes()
    # The try, and the end without TPM2_Shutdown after it: the TPM cannot know whether another try went unrecorded.
    assert lockout_counter(tmp_path) == 2
    assert (tmp_path / "tpm/state/tpm2-00.permall").read_bytes() == state
    assert not (tmp_path / "tpm-copy").exists()
