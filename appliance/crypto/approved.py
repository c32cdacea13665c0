"""The list of algorithms in use, where each is used and which standard describes it.

Owns the list that status pages and evidence show. "Approved" means published by NIST for federal use; it claims no
certification of this product or of the libraries under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One algorithm.

    Attributes:
        is_approved: on NIST's list; the reason it is used nevertheless stands in `used_for` when False.
        self_test: name in `self_test.TESTS`, None when it runs on other machines only.
    """

    algorithm: str
    used_for: str
    standard: str
    is_approved: bool
    self_test: str | None


USES: Final = (
    Use(
        algorithm="SHA-256",
        used_for="hash chain, Merkle tree, commitments, key ids",
        standard="FIPS 180-4",
        is_approved=True,
        self_test="SHA-256",
    ),
    Use(
        algorithm="SHA-384",
        used_for="ECDSA P-384, public key hash in envelopes",
        standard="FIPS 180-4",
        is_approved=True,
        self_test="SHA-384",
    ),
    Use(
        algorithm="HMAC-SHA-256",
        used_for="webhook authentication, HKDF",
        standard="FIPS 198-1",
        is_approved=True,
        self_test="HMAC-SHA-256",
    ),
    Use(
        algorithm="HKDF-SHA-256",
        used_for="envelope key on tokens without AES-GCM",
        standard="SP 800-56C Rev. 2, RFC 5869",
        is_approved=True,
        self_test="HKDF-SHA-256",
    ),
    Use(
        algorithm="AES-256-GCM",
        used_for="seed envelopes, erasable values, owner key file",
        standard="FIPS 197, SP 800-38D",
        is_approved=True,
        self_test="AES-256-GCM",
    ),
    Use(
        algorithm="ECDSA P-256 with SHA-256",
        used_for="terminal requests; heads where the token has no Ed25519",
        standard="FIPS 186-5, RFC 9053, RFC 9864",
        is_approved=True,
        self_test="ECDSA P-256",
    ),
    Use(
        algorithm="ECDSA P-384 with SHA-384",
        used_for="owner statements, box CA; heads where the token has no Ed25519",
        standard="FIPS 186-5, RFC 9053, RFC 9864",
        is_approved=True,
        self_test="ECDSA P-384",
    ),
    Use(
        algorithm="Ed25519",
        used_for="heads, receipts, checkpoints",
        standard="FIPS 186-5, RFC 8032, RFC 9864",
        is_approved=True,
        self_test="Ed25519",
    ),
    Use(
        algorithm="ML-DSA-87",
        used_for="heads, receipts, checkpoints",
        standard="FIPS 204, RFC 9964",
        is_approved=True,
        self_test="ML-DSA-87",
    ),
    Use(
        algorithm="ML-DSA-44",
        used_for="cosignatures of witnesses, as their specification has it",
        standard="FIPS 204, C2SP tlog-cosignature",
        is_approved=True,
        self_test="ML-DSA-44",
    ),
    Use(
        algorithm="SLH-DSA-SHA2-256s",
        used_for="owner statements",
        standard="FIPS 205, RFC 9909",
        is_approved=True,
        self_test="SLH-DSA-SHA2-256s",
    ),
    Use(
        algorithm="HPKE ML-KEM-1024 with P-384",
        used_for="what is published for the auditor alone; its parts are approved, their combination is a draft yet",
        standard="RFC 9180, draft-ietf-hpke-pq (KEM 0x0051), FIPS 203, SP 800-56A Rev. 3",
        is_approved=False,
        self_test="HPKE ML-KEM-1024 with P-384",
    ),
    Use(
        algorithm="scrypt",
        used_for="owner key file under a passphrase, on the owner's own computer: memory-hard, which PBKDF2 is not",
        standard="RFC 7914",
        is_approved=False,
        self_test=None,
    ),
)
