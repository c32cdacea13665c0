"""The first visit: TPM and token are made this box's own, and the box asks its owner.

Owns the steps and their order. Must never need a network, a keyboard or the owner.

    tpm          nobody else owns it; storage root, attestation key and counters are there, and proven
    pin          drawn, and sealed in the TPM before anything has it
    token        initialised with that PIN; the log's keys and the box's own are made in it
    attributes   what the token says of each key, read back: made inside, stays inside, one purpose
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.crypto import signature
from drivers.hsm.keys import KeyRef, Purpose, asserted, find_aes_key, find_private_key
from drivers.hsm.library import load
from drivers.hsm.token import Pin, Session, Token
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import EPOCH_INDEX, POLICY_FLOOR_INDEX, counter_name, ensure_counter
from drivers.tpm.errors import TpmPolicyRefused
from drivers.tpm.objects import EK_HANDLE, ensure_ak, ensure_srk, key_facts, read_ek_certificate
from drivers.tpm.quote import read_pcrs
from provisioning.box import HSM_LABEL, PCRS, log_keys, private_umask, write_envelopes
from provisioning.ceremony import pins
from provisioning.ceremony.record import Facts
from provisioning.ceremony.steps import TOKEN_KEYS, Place, Step
from provisioning.commands.outcome import CannotDo
from provisioning.site.request import SERIAL, BoxRequest
from provisioning.token import (
    AUTHORITY_KEY_ID,
    BOX_KEY_PURPOSE,
    WRAPPING_KEY_ID,
    TokenKeys,
    TokenPlan,
    make_token,
    token_cipher,
    write_softhsm_configuration,
)
from provisioning.tpm import prove_attestation_key

# TPM 2.0 part 2, 6.13 and 8.6: TPM_PT_PERMANENT with ownerAuthSet, endorsementAuthSet, lockoutAuthSet and inLockout.
_PT_PERMANENT: Final = 0x200
_PT_LOCKOUT_COUNTER: Final = 0x20E
_PT_FIRMWARE: Final = 0x10B
_OWNED: Final = {"owner": 0x1, "endorsement": 0x2, "lockout": 0x4}
_IN_LOCKOUT: Final = 0x200
_SERIAL_DIGITS: Final = 12


def make_tpm_ready(place: Place) -> Facts:
    """Raises CannotDo: the TPM has another owner; TpmForeign: its handles hold other objects."""
    with closing(TpmContext(place.tcti)) as tpm:
        permanent = tpm.property(_PT_PERMANENT)
        if owned := [name for name, bit in _OWNED.items() if permanent & bit]:
            raise CannotDo(
                f"this TPM has an owner: a password is set for {', '.join(owned)} (tpm_owned)",
                "clear the TPM in the firmware's setup, which destroys what that owner keeps in it",
            )
        if permanent & _IN_LOCKOUT:
            raise CannotDo("this TPM is locked out (tpm_locked_out)", "leave it powered for a day, or clear it")
        srk, ak = ensure_srk(tpm), ensure_ak(tpm)
        certificate = read_ek_certificate(tpm)
        prove_attestation_key(tpm, ek=key_facts(tpm, EK_HANDLE), ek_certificate=certificate, ak=ak)
        digest = hashlib.sha256(certificate).hexdigest()
        serial = place.serial or f"TS-{digest[:_SERIAL_DIGITS].upper()}"
        if not SERIAL.match(serial):
            raise CannotDo(f"{serial!r} is no serial number", "1 to 32 letters, digits and hyphens")
        return {
            "serial": serial,
            "software": installed_version("tillstone"),
            "firmware": f"{tpm.property(_PT_FIRMWARE):08x}",
            "storage_root_name": srk.name.hex(),
            "attestation_key_name": ak.name.hex(),
            "endorsement_certificate_sha256": digest,
            "policy_floor": ensure_counter(tpm, POLICY_FLOOR_INDEX),
            "epoch": ensure_counter(tpm, EPOCH_INDEX),
            "lockout_counter": tpm.property(_PT_LOCKOUT_COUNTER),
            "passwords_set": [],
        }


def seal_pin(place: Place) -> Facts:
    """A PIN that nothing has yet; done again, it is another one."""
    bundle = pins.draw(place.tcti)
    place.write(pins.POLICY, pins.encoded_policy(bundle.policies[0]))
    place.write(pins.BUNDLE, pins.encoded(bundle))
    return {"sealed_sha256": hashlib.sha256(bundle.sealed.private).hexdigest(), "pcrs": list(PCRS)}


def make_token_ready(place: Place) -> Facts:
    """From the beginning each time: a token that was cut short holds keys that nobody has named."""
    opened = pins.open_pins(place.tcti, place.folder)
    token = place.folder / "token"
    shutil.rmtree(token, ignore_errors=True)
    with private_umask():
        write_softhsm_configuration(token)
        plan = TokenPlan(module_path=str(place.module()), label=HSM_LABEL, so_pin=opened.officer, user_pin=opened.user)
        keys = make_token(plan, environment=place.environment)
    write_envelopes(place.folder, keys)
    place.write(TOKEN_KEYS, msgspec.json.encode(keys))
    pair = log_keys(keys)
    return {
        "library": str(place.module()),
        "label": HSM_LABEL,
        "classical": {
            "algorithm": signature.algorithm(pair.classical.algorithm).name,
            "id": pair.classical.key_id.hex(),
        },
        "post_quantum": {
            "algorithm": signature.algorithm(pair.post_quantum.algorithm).name,
            "id": pair.post_quantum.key_id.hex(),
        },
        "checkpoints": signature.key_id(keys.note_public).hex(),
        "box_key_sha256": hashlib.sha256(_box_key(keys)).hexdigest(),
    }


def prove_attributes(place: Place) -> Facts:
    """Raises KeyRefused: a key could leave the token, or do more than its one thing."""
    keys = place.token_keys()
    with token_session(place) as session:
        ref = KeyRef(key_id=keys.classical_id, public_sha256=hashlib.sha256(keys.classical_public).digest())
        found: dict[str, Any] = {"classical": find_private_key(session, ref, Purpose.SIGN).handle}
        if keys.wrapping_public is None:
            found["wrapping"] = find_aes_key(session, WRAPPING_KEY_ID)
        else:
            ref = KeyRef(key_id=WRAPPING_KEY_ID, public_sha256=hashlib.sha256(keys.wrapping_public).digest())
            found["wrapping"] = find_private_key(session, ref, Purpose.DERIVE).handle
        if keys.authority_public is not None:
            ref = KeyRef(key_id=AUTHORITY_KEY_ID, public_sha256=hashlib.sha256(keys.authority_public).digest())
            found["authority"] = find_private_key(session, ref, Purpose.SIGN).handle
        return {name: dict(asserted(session, handle)) for name, handle in found.items()}


FIRST_VISIT: Final = (
    Step(name="tpm", title="the TPM is this box's: root, attestation key, counters", run=make_tpm_ready),
    Step(name="pin", title="the token's PIN is drawn and sealed in the TPM", run=seal_pin),
    Step(name="token", title="the token is initialised and has its keys", run=make_token_ready),
    Step(
        name="attributes",
        title="every key was made in the token, stays there, and does one thing",
        run=prove_attributes,
    ),
)


OF_THE_PIN: Final = ("pin", "token", "attributes")
"""Steps that are done anew when the PIN opens no more."""


def still_opens(place: Place) -> bool:
    """Whether the machine has started what it had started when the PIN was sealed; also before there is one."""
    if place.record.facts("pin") is None:
        return True
    try:
        pins.open_pins(place.tcti, place.folder)
    except TpmPolicyRefused:
        return False
    return True


def request_of(place: Place) -> BoxRequest:
    """What the box asks of its owner, as the machine is now; the same bytes as long as it starts the same software."""
    keys = place.token_keys()
    bundle = pins.read_bundle(place.folder)
    with closing(TpmContext(place.tcti)) as tpm:
        return BoxRequest(
            serial=place.fact("tpm", "serial"),
            keys=log_keys(keys),
            note_key=keys.note_public,
            box_key=_box_key(keys),
            ek_certificate=bundle.ek_certificate,
            ek_public=bundle.ek_public,
            ak_public=bundle.ak_public,
            pcrs=read_pcrs(tpm, PCRS),
            floor_name=counter_name(tpm, POLICY_FLOOR_INDEX),
            floor=ensure_counter(tpm, POLICY_FLOOR_INDEX),
            version=installed_version("tillstone"),
        )


def box_seed(place: Place) -> bytes:
    """The seed of the box's key: opens what the owner sealed to this box."""
    keys = place.token_keys()
    envelope = b"" if keys.box is None else keys.box.envelope
    with token_session(place) as session:
        return token_cipher(session, keys.wrapping_public).unwrap(envelope, BOX_KEY_PURPOSE)


@contextmanager
def token_session(place: Place) -> Iterator[Session]:
    """The token, logged in with what the TPM gives; every earlier login of this process ends."""
    opened = pins.open_pins(place.tcti, place.folder)
    os.environ.update(place.environment)  # where SoftHSM finds its store
    library = load(str(place.module()))
    library.reinitialise()
    token = Token.open(library=library, label=HSM_LABEL, serial=None, pin=Pin(opened.user))
    session = token.session()
    try:
        yield session
    finally:
        session.close()


def _box_key(keys: TokenKeys) -> bytes:
    if keys.box is None:
        raise CannotDo("this token's keys were made without one for the owner's secrets", "provision the box anew")
    return keys.box.public


def is_another_makers(folder: Path) -> bool:
    """Whether the box in `folder` was made, and not by a ceremony: such as a bench or a sandbox."""
    return (folder / "box.json").exists() and not (folder / TOKEN_KEYS).exists()
