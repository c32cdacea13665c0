"""Make a box: owner key, TPM, token and keys, the PIN sealed, genesis and trust. Safe to run again after any crash.

Owns the folder's layout and the order of steps. Its rules:
- a step is done when its file is there, and each file appears whole or not at all;
- token, keys and sealed PIN are one ceremony, done when `box.json` is there: the PIN exists nowhere but in the TPM, so
  a ceremony that was cut short starts over with an empty token;
- everything is 0700 or 0600; the owner's key lies here only because a sandbox has no other computer.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerKey
from appliance.ledger.genesis import GenesisStatement, read_body
from appliance.ledger.subject_keys import STORE_KEY_FILE
from appliance.ledger.trust import encode_trust
from drivers.tpm.bundle import TpmBundle, decode_bundle, encode_bundle
from provisioning.attest.own_box import certify_own_box, is_certified
from provisioning.owner.statements import sign
from provisioning.swtpm import RunningSwtpm, make_swtpm, powered_tpm, start_swtpm
from provisioning.terminal.durable import write_durably
from provisioning.token import TokenKeys, TokenPlan, make_token, softhsm_environment, write_softhsm_configuration
from provisioning.tpm import provision_tpm

HSM_LABEL: Final = "tillstone"
NOTE_ENVELOPE: Final = "note.envelope"
ATTESTATION: Final = "attestation.cbor"
PCRS: Final = (0, 7, 11)
QUOTE_PCRS: Final = (0, 2, 4, 7, 11, 12, 13)
"""Firmware, its extensions, what it started, Secure Boot, the image, and what may be added to an image (nothing)."""
_MODULES: Final = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
)


class BoxFailed(Exception):
    """The box cannot be made here; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopFacts:
    """Who sells; goes into the log's name and the settings."""

    name: str = "Corner Shop"
    owner: str = "corner-shop.example"
    serial: str = "SANDBOX-1"
    currency: str = "EUR"
    country: str = "DE"
    timezone: str = "Europe/Berlin"
    generation: int = 1

    @property
    def origin(self) -> str:
        return f"{self.owner}/{self.serial}/{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The files of a made box."""

    folder: Path
    shop: ShopFacts
    module: Path
    keys: TokenKeys

    @property
    def data(self) -> Path:
        """Where the log lives."""
        return self.folder / "data"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def tpm(self) -> Path:
        return self.folder / "tpm"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.json"

    @property
    def attestation(self) -> Path:
        """The owner's word for the key that signs quotes, once there is one."""
        return self.folder / ATTESTATION

    @property
    def bundle(self) -> TpmBundle:
        """What the box remembers of its TPM."""
        return decode_bundle((self.folder / "tpm-bundle.json").read_bytes())

    @property
    def settings(self) -> Path:
        return self.folder / "tillstone.toml"

    @property
    def environment(self) -> dict[str, str]:
        """What the appliance's process needs to find the token."""
        return softhsm_environment(self.token)


class _BoxFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """box.json: the end of the ceremony."""

    version: int
    shop: ShopFacts
    module: str
    keys: TokenKeys


Step = Callable[[str], None]
"""Called with each step's name when it begins."""


def make_box(
    folder: Path,
    *,
    shop: ShopFacts | None = None,
    owner_key: Path | None = None,
    without: tuple[str, ...] = (),
    tcti: str | None = None,
    on_step: Step = lambda _step: None,
) -> Box:
    """The box in `folder`, made as far as it is not there yet.

    Args:
        tcti: of a TPM that is there and runs, as in a machine; None makes a software TPM in the folder.
        shop: for a new box; one that is there keeps its own.
        owner_key: of a sandbox that has this owner already; copied into a new box in place of a key of its own.
        without: mechanisms that a new box's token does not offer; see `write_softhsm_configuration`.
    Raises:
        BoxFailed: a program or library is missing, or the folder belongs to something else.
        SwtpmError, TokenFailed: a device could not be made; run again.
    """
    folder = private_folder(folder)
    owner = _owner_key_path(folder)
    if not (folder / "box.json").exists():
        with private_umask():
            if owner_key is not None:
                write_durably(owner, owner_key.read_bytes())
            _make_owner(owner, on_step)
    box = make_devices(folder, shop=shop or ShopFacts(), without=without, tcti=tcti, on_step=on_step)
    if not (folder / "genesis.cbor").exists():
        on_step("the owner signs the log's genesis")
        signed = sign(OwnerKey.load(owner, None), genesis_statement(box))
        write_durably(folder / "genesis.cbor", signed.file)
    if not box.trust.exists():
        genesis = read_body((folder / "genesis.cbor").read_bytes())
        write_durably(box.trust, encode_trust(OwnerKey.load(owner, None).public, [genesis]))
    if owner.exists() and not is_certified(box):
        on_step("the owner's word for the key with which the TPM attests")
        with powered_tpm(box.tpm, tcti) as reached:
            certify_own_box(box, OwnerKey.load(owner, None), reached)
    box.data.mkdir(mode=0o700, exist_ok=True)
    return box


def make_owner(folder: Path, *, on_step: Step = lambda _step: None) -> Path:
    """The owner's key of the box in `folder`, made if it is not there; the rest of the box may come later.

    Raises:
        BoxFailed: the folder belongs to something else.
    """
    path = _owner_key_path(private_folder(folder))
    with private_umask():
        _make_owner(path, on_step)
    return path


def make_devices(
    folder: Path,
    *,
    shop: ShopFacts,
    without: tuple[str, ...] = (),
    tcti: str | None = None,
    on_step: Step = lambda _step: None,
) -> Box:
    """Token, TPM and keys in `folder`, and no owner: he is asked on his own computer. Raises like `make_box`."""
    folder = private_folder(folder)
    if not (folder / "box.json").exists():
        with private_umask():
            _ceremony(folder, shop, without, tcti, on_step)
    return read_box(folder)


def renew_devices(box: Box, *, on_step: Step = lambda _step: None) -> Box:
    """New token and TPM in place of lost ones, with new keys; what is left of the old ones is put aside.

    The log does not start with them: its owner names them first (`provisioning/succession.py`).
    """
    for device in (box.token, box.tpm):
        aside = device.with_name(f"{device.name}-{box.shop.generation}")
        if device.exists() and not aside.exists():
            device.rename(aside)
    # Only the lost token opened it: a new log begins without it (`carry.py`).
    wrapped = box.data / STORE_KEY_FILE
    if wrapped.exists():
        wrapped.rename(wrapped.with_name(f"lost-{STORE_KEY_FILE}"))
    with private_umask():
        _ceremony(box.folder, box.shop, (), None, on_step)
    return read_box(box.folder)


def keep_box(box: Box) -> None:
    """Write `box.json`: from here on these are the box's keys and its log's generation."""
    made = _BoxFile(version=1, shop=box.shop, module=str(box.module), keys=box.keys)
    write_durably(box.folder / "box.json", msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")


def genesis_statement(box: Box) -> GenesisStatement:
    """What the owner is asked to sign for the log that this box is about to begin."""
    keys = box.keys
    return GenesisStatement(
        origin=box.shop.origin,
        created_ms=time.time_ns() // 1_000_000,
        keys=log_keys(keys),
        note_key=keys.note_public,
    )


def log_keys(keys: TokenKeys) -> HybridPublic:
    """The pair that signs heads."""
    return HybridPublic(
        classical=PinnedKey(algorithm=keys.classical_algorithm, public_key=keys.classical_public),
        post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=keys.post_quantum_public),
    )


def write_envelopes(folder: Path, keys: TokenKeys) -> None:
    """The files of the keys that only the token opens."""
    write_durably(folder / "ml-dsa.envelope", keys.envelope)
    if keys.note is not None:
        write_durably(folder / NOTE_ENVELOPE, keys.note.envelope)


def start_tpm(box: Box) -> RunningSwtpm:
    """Power on the box's TPM; it ends with the calling thread's process."""
    return start_swtpm(box.tpm)


def find_module() -> Path:
    """The PKCS#11 library of SoftHSM. Raises BoxFailed."""
    for path in _MODULES:
        if path.exists():
            return path
    raise BoxFailed("SoftHSM is not installed; on Debian: apt-get install softhsm2 libsofthsm2")


def _make_owner(path: Path, on_step: Step) -> None:
    if path.exists():
        return
    on_step("the owner's key, ECDSA P-384 and SLH-DSA")
    # Written beside and renamed: a key file cut short must not pass for one.
    beside = path.with_name(".owner-key.new")
    beside.unlink(missing_ok=True)
    OwnerKey.generate().save(beside, None)
    beside.rename(path)


def _ceremony(folder: Path, shop: ShopFacts, without: tuple[str, ...], tcti: str | None, on_step: Step) -> None:
    """Token, keys, envelopes and sealed PIN: all of them, from the beginning."""
    module = find_module()
    if tcti is None:
        on_step("a software TPM with an endorsement certificate")
        make_swtpm(folder / "tpm")
        _tighten(folder / "tpm")
    on_step("a SoftHSM token with the log's keys")
    token = folder / "token"
    shutil.rmtree(token, ignore_errors=True)
    write_softhsm_configuration(token, without=without)
    pin, so_pin = secrets.token_hex(16), secrets.token_hex(16)
    plan = TokenPlan(module_path=str(module), label=HSM_LABEL, so_pin=so_pin, user_pin=pin)
    write_durably(token / "so-pin", so_pin.encode() + b"\n")
    keys = make_token(plan, environment=softhsm_environment(token))
    write_envelopes(folder, keys)
    on_step("the token's PIN, sealed in the TPM")
    _seal_pin(folder, pin.encode(), tcti)
    keep_box(Box(folder=folder, shop=shop, module=module, keys=keys))


def _seal_pin(folder: Path, pin: bytes, tcti: str | None) -> None:
    policy_key = _policy_key(folder)
    with powered_tpm(folder / "tpm", tcti) as reached:
        bundle = provision_tpm(reached, pin, policy_key, PCRS, quote_pcrs=QUOTE_PCRS)
    write_durably(folder / "pcr-policy.json", msgspec.json.encode(bundle.policies[0]))
    write_durably(folder / "tpm-bundle.json", encode_bundle(bundle))


def _policy_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = _owner_key_path(folder).with_name("policy-key.pem")
    if path.exists():
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
        if isinstance(loaded, ec.EllipticCurvePrivateKey):
            return loaded
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_durably(path, pem)
    return key


def _owner_key_path(folder: Path) -> Path:
    owner = folder / "owner"
    owner.mkdir(mode=0o700, exist_ok=True)
    return owner / "owner-key"


def private_folder(folder: Path) -> Path:
    """`folder`, made and marked as a box's when it is new or empty. Raises BoxFailed when it holds other files."""
    folder = Path(os.path.abspath(folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    marker = folder / ".tillstone-box"
    # Marked first: a later run tells a box cut short from somebody's folder of other files.
    if not marker.exists() and any(folder.iterdir()):
        raise BoxFailed(f"{folder} holds other files: name an empty folder")
    marker.touch(mode=0o600)
    return folder


def _tighten(folder: Path) -> None:
    """swtpm_localca gives its keys to the group, whatever the umask is."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.is_file():
            path.chmod(0o700 if path.is_dir() else 0o600)


@contextmanager
def private_umask() -> Iterator[None]:
    """For the programs started meanwhile; some of them write keys with the caller's umask."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def read_box(folder: Path) -> Box:
    """The box that was made in `folder`. Raises BoxFailed."""
    marker = folder / "box.json"
    try:
        made = msgspec.json.decode(marker.read_bytes(), type=_BoxFile)
    except (OSError, msgspec.MsgspecError) as cause:
        raise BoxFailed(f"{marker} cannot be read ({cause}): remove {folder} to begin anew") from cause
    return Box(folder=folder, shop=made.shop, module=Path(made.module), keys=made.keys)


def public_key_sha256(public_key: bytes) -> str:
    """How settings pin a key."""
    return hashlib.sha256(public_key).hexdigest()
