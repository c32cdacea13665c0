"""Which key exchanges a TLS context takes part in, and the proof of it.

Owns the lists of groups. Must never call a context post-quantum that has not refused a classic handshake: a misspelt
group, or a configuration file that is not found, leaves a library silently at its classic default.

Python has no call for this before 3.15 (`SSLContext.set_ecdh_curve` takes one curve by its OpenSSL number, and hybrid
groups have none), and `Groups` in OPENSSL_CONF would bind every connection of the process, also those to providers.

Source: draft-ietf-tls-ecdhe-mlkem; OpenSSL 3.5, SSL_CTX_set1_groups_list(3).
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from appliance.model.errors import Corrupt, Rejected

HYBRID: Final = "X25519MLKEM768:SecP384r1MLKEM1024:SecP256r1MLKEM768"
CLASSIC: Final = "X25519:P-256:P-384"
_SSL_CTRL_SET_GROUPS_LIST: Final = 92  # openssl/ssl.h
# A TLS 1.3 handshake needs two rounds, three with a retry.
_ROUNDS_MAX: Final = 4


def require_hybrid(context: ssl.SSLContext) -> None:
    """From now on `context` agrees on no key without ML-KEM; proven on it before this returns, in 3 ms.

    Args:
        context: a server's, with its certificate loaded.
    Raises:
        Rejected: `post_quantum_unavailable`, the library of this machine has no hybrid groups.
        Corrupt: `classic_handshake_accepted`, `hybrid_handshake_refused`.
    """
    if not set_groups(context, HYBRID):
        raise Rejected(
            "post_quantum_unavailable",
            f"{ssl.OPENSSL_VERSION} has no hybrid groups, OpenSSL 3.5 (Debian 13) is needed for post-quantum TLS",
        )
    if shakes_hands(context, CLASSIC):
        raise Corrupt("classic_handshake_accepted", "a handshake without ML-KEM succeeded, and is to be refused")
    if not shakes_hands(context, HYBRID):
        raise Corrupt("hybrid_handshake_refused", "a handshake with ML-KEM failed, and none without is allowed")


def set_groups(context: ssl.SSLContext, groups: str) -> bool:
    """Restrict the context to a colon-separated list of OpenSSL's names; False when the library lacks one of them."""
    of_python: Callable[[str], None] | None = getattr(context, "set_groups", None)
    if of_python is not None:
        try:
            of_python(groups)
        except ssl.SSLError:
            return False
        return True
    # Up to Python 3.14 the first member of the object is its SSL_CTX (Modules/_ssl.c, PySSLContext).
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    control = ctypes.CDLL(_ssl.__file__).SSL_CTX_ctrl  # found in the libssl that the module is linked to
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    control.restype = ctypes.c_long
    return bool(control(pointer, _SSL_CTRL_SET_GROUPS_LIST, 0, groups.encode()) == 1)


def shakes_hands(server: ssl.SSLContext, groups: str) -> bool:
    """Whether a client that knows these groups alone gets through a TLS 1.3 handshake with `server`, in memory.

    Raises:
        Rejected: `post_quantum_unavailable`, the library lacks one of the client's groups.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # whose certificate it is does not matter here
    if not set_groups(client, groups):
        raise Rejected("post_quantum_unavailable", f"{ssl.OPENSSL_VERSION} lacks one of the groups {groups}")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    with suppress(ssl.SSLError):
        for _ in range(_ROUNDS_MAX):
            finished = [_has_finished(side) for side in sides]
            if all(finished):
                return True
    return False


def _has_finished(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
