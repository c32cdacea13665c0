"""Sign from several threads at once with one SoftHSM token; the test that starts this counts on it not crashing.

Usage: TEST_HSM_LABEL, TEST_HSM_PIN and SOFTHSM2_CONF set; arguments: threads, signatures per thread.
"""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from drivers.hsm import library as hsm_library
from drivers.hsm.keys import Algorithm, KeyRef, generate_signing_key
from drivers.hsm.signing import SigningKey
from drivers.hsm.token import Pin, Token
from tests.softhsm import LIBRARY_PATH


def main() -> None:
    thread_count, signature_count = int(sys.argv[1]), int(sys.argv[2])
    library = hsm_library.load(LIBRARY_PATH)
    pin = Pin(os.environ["TEST_HSM_PIN"])
    token = Token.open(library=library, label=os.environ["TEST_HSM_LABEL"], serial=None, pin=pin)
    public_key = generate_signing_key(token.session(writable=True), Algorithm.P256, key_id=b"k", label="threads")
    ref = KeyRef(key_id=b"k", public_sha256=hashlib.sha256(public_key).digest())

    def sign_many(number: int) -> int:
        key = SigningKey.open(token.session(), ref, Algorithm.P256)
        return sum(len(key.sign(f"{number}/{index}".encode())) == 64 for index in range(signature_count))

    with ThreadPoolExecutor(thread_count) as pool:
        print(sum(pool.map(sign_many, range(thread_count))), "signatures")


if __name__ == "__main__":
    main()
