"""Keys in the token: made for one purpose, found by id and public-key hash, refused when they could leave it.

Never exports a private key and never picks "the first" key: exactly one carries the id, or none is opened.

A key that may both wrap and decrypt can be exported in two calls, and a modifiable one can be given that right later,
so keys are made unmodifiable and uncopyable with a single purpose, and the purpose is checked whenever one is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import AttributeTypeInvalid
from pkcs11.types import Session as Pkcs11Session

from drivers.hsm.errors import KeyMissing, KeyRefused
from drivers.hsm.token import Session

AES_KEY_BITS: Final = 256
_ML_DSA_87_SET: Final = 3  # CKP_ML_DSA_87, PKCS#11 v3.2 section 6.67
_OCTET_STRING: Final = 0x04

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | mldsa.MLDSA87PublicKey


class Algorithm(Enum):
    """What a signing key does; the value is its name for people."""

    ED25519 = "Ed25519"
    P256 = "ECDSA P-256"
    P384 = "ECDSA P-384"
    ML_DSA_87 = "ML-DSA-87"


class Purpose(Enum):
    """The one thing a key may do; the value holds the attributes that are set, every other use is refused."""

    SIGN = frozenset({Attribute.SIGN})
    DERIVE = frozenset({Attribute.DERIVE})
    ENCRYPT = frozenset({Attribute.ENCRYPT, Attribute.DECRYPT})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """Which key is meant: both facts must hold, since an id alone can be given to any key.

    Attributes:
        key_id: CKA_ID.
        public_sha256: SHA-256 of the SubjectPublicKeyInfo.
    """

    key_id: bytes
    public_sha256: bytes


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A private key's handle, valid in the session that found it, with the public key it was pinned by."""

    handle: Any  # the binding makes a class per key out of its capabilities
    public_key: PublicKey


_USES: Final = (
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.SIGN,
    Attribute.SIGN_RECOVER,
    Attribute.WRAP,
    Attribute.UNWRAP,
    Attribute.DERIVE,
    Attribute.DECAPSULATE,
)
STAYS_INSIDE: Final[Mapping[Attribute, bool]] = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
# Given when a key is made; ALWAYS_SENSITIVE and NEVER_EXTRACTABLE follow from them and cannot be set.
_MADE_INSIDE: Final[Mapping[Attribute, bool]] = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.COPYABLE: False,
}
_EC_PARAMS: Final[Mapping[Algorithm, bytes]] = {
    Algorithm.P256: bytes.fromhex("06082a8648ce3d030107"),  # OID of secp256r1
    Algorithm.P384: bytes.fromhex("06052b81040022"),  # OID of secp384r1
    # PKCS#11 v3.0 section 2.3.5 allows the curve's name; SoftHSM knows Ed25519 by nothing else.
    Algorithm.ED25519: b"\x13\x0c" + b"edwards25519",
}


def generate_signing_key(session: Session, algorithm: Algorithm, *, key_id: bytes, label: str) -> bytes:
    """Make a signing key pair in the token; returns its SubjectPublicKeyInfo, to be pinned by the caller."""
    if algorithm is Algorithm.ML_DSA_87:
        make = _ml_dsa_maker(key_id=key_id, label=label)
    else:
        make = _curve_maker(algorithm, Purpose.SIGN, key_id=key_id, label=label)
    return _generate(session, key_id, make)


def generate_derive_key(session: Session, *, key_id: bytes, label: str) -> bytes:
    """Make a P-384 key pair for ECDH, for tokens without AES-GCM; returns its SubjectPublicKeyInfo."""
    return _generate(session, key_id, _curve_maker(Algorithm.P384, Purpose.DERIVE, key_id=key_id, label=label))


def generate_aes_key(session: Session, *, key_id: bytes, label: str) -> None:
    """Make an AES-256 key that encrypts and decrypts and nothing else."""
    with session.used("make an AES key") as raw:
        _refuse_taken_id(raw, key_id)
        raw.generate_key(
            KeyType.AES,
            AES_KEY_BITS,
            id=key_id,
            label=label,
            store=True,
            capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
            template=dict(_MADE_INSIDE),
        )


def find_private_key(session: Session, ref: KeyRef, purpose: Purpose) -> FoundKey:
    """The private key that `ref` names.

    Raises:
        KeyMissing: no key with that id is visible.
        KeyRefused: several are, the public key is another one, or the key could leave or be misused.
    """
    with session.used("find a private key") as raw:
        handle = _exactly_one(raw, ObjectClass.PRIVATE_KEY, ref.key_id)
        public_key = _public_key(_exactly_one(raw, ObjectClass.PUBLIC_KEY, ref.key_id))
        seen = hashlib.sha256(subject_public_key_info(public_key)).digest()
        if seen != ref.public_sha256:
            raise KeyRefused(f"key {ref.key_id.hex()}: expected {ref.public_sha256.hex()}, saw {seen.hex()}")
        _refuse_unsafe(handle, purpose, ref.key_id)
    return FoundKey(handle, public_key)


def find_aes_key(session: Session, key_id: bytes) -> Any:
    """The AES key with that id. It has no public half to pin: whatever it opens is authenticated."""
    with session.used("find an AES key") as raw:
        handle = _exactly_one(raw, ObjectClass.SECRET_KEY, key_id)
        if handle[Attribute.KEY_TYPE] is not KeyType.AES or handle[Attribute.VALUE_LEN] * 8 != AES_KEY_BITS:
            raise KeyRefused(f"key {key_id.hex()} is not an AES-256 key")
        _refuse_unsafe(handle, Purpose.ENCRYPT, key_id)
    return handle


def asserted(session: Session, handle: Any) -> dict[str, bool]:
    """What the token says of a key: where it stays and what it may do, by the names of PKCS#11."""
    with session.used("read a key's attributes"):
        return {attribute.name: _seen(handle, attribute) for attribute in (*STAYS_INSIDE, *_USES)}


def subject_public_key_info(public_key: PublicKey) -> bytes:
    """DER, the form in which public keys are pinned and hashed everywhere."""
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


_Maker = Callable[[Pkcs11Session], tuple[Any, Any]]


def _generate(session: Session, key_id: bytes, make: _Maker) -> bytes:
    with session.used("make a key pair") as raw:
        _refuse_taken_id(raw, key_id)
        public, _private = make(raw)
        return subject_public_key_info(_public_key(public))


def _curve_maker(algorithm: Algorithm, purpose: Purpose, *, key_id: bytes, label: str) -> _Maker:
    edwards = algorithm is Algorithm.ED25519
    signs = purpose is Purpose.SIGN

    def make(raw: Pkcs11Session) -> tuple[Any, Any]:
        parameters = raw.create_domain_parameters(
            KeyType.EC_EDWARDS if edwards else KeyType.EC, {Attribute.EC_PARAMS: _EC_PARAMS[algorithm]}, local=True
        )
        return parameters.generate_keypair(
            id=key_id,
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY if signs else MechanismFlag.DERIVE,
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN if edwards else Mechanism.EC_KEY_PAIR_GEN,
            private_template=_private_template(),
        )

    return make


def _ml_dsa_maker(*, key_id: bytes, label: str) -> _Maker:
    def make(raw: Pkcs11Session) -> tuple[Any, Any]:
        return raw.generate_keypair(
            KeyType.ML_DSA,
            id=key_id,
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            mechanism=Mechanism.ML_DSA_KEY_PAIR_GEN,
            public_template={Attribute.PARAMETER_SET: _ML_DSA_87_SET},
            private_template=_private_template(),
        )

    return make


def _private_template() -> dict[Attribute, bool]:
    # SoftHSM gives private keys SIGN_RECOVER unless told otherwise.
    return {**_MADE_INSIDE, Attribute.SIGN_RECOVER: False}


def _refuse_taken_id(raw: Pkcs11Session, key_id: bytes) -> None:
    if list(raw.get_objects({Attribute.ID: key_id})):
        raise KeyRefused(f"the token already holds an object with id {key_id.hex()}")


def _exactly_one(raw: Pkcs11Session, object_class: ObjectClass, key_id: bytes) -> Any:
    found = list(raw.get_objects({Attribute.CLASS: object_class, Attribute.ID: key_id}))
    if not found:
        raise KeyMissing(f"no {object_class.name} with id {key_id.hex()} is visible")
    if len(found) > 1:
        raise KeyRefused(f"{len(found)} objects of class {object_class.name} carry the id {key_id.hex()}")
    return found[0]


def _refuse_unsafe(handle: Any, purpose: Purpose, key_id: bytes) -> None:
    expected = dict(STAYS_INSIDE) | {use: use in purpose.value for use in _USES}
    for attribute, value in expected.items():
        seen = _seen(handle, attribute)
        if seen is not value:
            raise KeyRefused(f"key {key_id.hex()}: {attribute.name} is {seen}, expected {value} for {purpose.name}")


def _seen(handle: Any, attribute: Attribute) -> bool:
    # A token that does not know an attribute cannot grant the use either; what must be true must be known.
    try:
        return bool(handle[attribute])
    except AttributeTypeInvalid:
        return False


def _public_key(handle: Any) -> PublicKey:
    match handle[Attribute.KEY_TYPE]:
        case KeyType.EC:
            curve = ec.SECP256R1() if handle[Attribute.EC_PARAMS] == _EC_PARAMS[Algorithm.P256] else ec.SECP384R1()
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, _point(handle[Attribute.EC_POINT]))
        case KeyType.EC_EDWARDS:
            return ed25519.Ed25519PublicKey.from_public_bytes(_point(handle[Attribute.EC_POINT]))
        case KeyType.ML_DSA:
            return mldsa.MLDSA87PublicKey.from_public_bytes(handle[Attribute.VALUE])
        case other:
            raise KeyRefused(f"a key of type {other} is not one of ours")


def _point(value: bytes) -> bytes:
    """CKA_EC_POINT without its DER OCTET STRING; PKCS#11 v2.40 asks for the wrapping, some tokens leave it out."""
    is_wrapped = len(value) >= 2 and value[0] == _OCTET_STRING and value[1] == len(value) - 2
    return value[2:] if is_wrapped else value
