"""The traps of PKCS#11, each closed and sprung on a real SoftHSM."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pkcs11 import Attribute, KeyType, MechanismFlag

from drivers.hsm import library as hsm_library
from drivers.hsm.cipher import EcdhCipher, GcmCipher, choose_rung
from drivers.hsm.errors import (
    BlobRefused,
    KeyMissing,
    KeyRefused,
    LibraryBusy,
    MechanismMissing,
    PinRefused,
    SignatureUntrue,
    StaleGeneration,
    TokenAway,
    TokenRefused,
)
from drivers.hsm.keys import (
    Algorithm,
    KeyRef,
    Purpose,
    find_private_key,
    generate_aes_key,
    generate_derive_key,
    generate_signing_key,
)
from drivers.hsm.signing import CLASSICAL_LADDER, SigningKey, choose_classical, is_supported
from drivers.hsm.token import Pin, Session, Token
from tests.softhsm import LABEL, SoftHsm, soft_hsm

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    with soft_hsm(tmp_path, monkeypatch) as made:
        yield made


def made_key(session: Session, algorithm: Algorithm = Algorithm.P256, key_id: bytes = b"k") -> KeyRef:
    public_key = generate_signing_key(session, algorithm, key_id=key_id, label="test")
    return KeyRef(key_id=key_id, public_sha256=sha256(public_key).digest())


def test_four_threads_sign_two_thousand_times_without_a_crash(hsm: SoftHsm) -> None:
    """In a process of its own: without OS locks SoftHSM ends in SIGSEGV, which would take the test runner along."""
    program = [sys.executable, "-m", "tests.tools.hsm_threads", "4", "500"]
    environment = {**os.environ, "TEST_HSM_PIN": hsm.pin.reveal(), "TEST_HSM_LABEL": LABEL}
    done = subprocess.run(program, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "2000 signatures"), done.stderr


class TestToken:
    def test_second_login_is_refused_and_the_first_one_stands(self, hsm: SoftHsm) -> None:
        token = hsm.open_token()
        with pytest.raises(TokenRefused, match="logged in already"):
            Token.open(library=hsm.library(), label=LABEL, serial=None, pin=hsm.pin)
        made_key(token.session(writable=True))

    def test_closing_a_worker_session_does_not_log_the_process_out(self, hsm: SoftHsm) -> None:
        token = hsm.open_token()
        first = token.session(writable=True)
        ref = made_key(first)
        first.close()
        SigningKey.open(token.session(), ref, Algorithm.P256).sign(b"still logged in")

    def test_wrong_pin_is_presented_exactly_once(self, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
        hsm.library().reinitialise()
        wrong = CountingPin("0000000000000000")
        for _ in range(3):
            with pytest.raises(PinRefused):
                Token.open(library=hsm.library(), label=LABEL, serial=None, pin=wrong)
            hsm.library().reinitialise()
        assert wrong.reveal_count == 1

    def test_refused_token_is_not_asked_with_another_pin_either(self, hsm: SoftHsm) -> None:
        hsm.library().reinitialise()
        with pytest.raises(PinRefused):
            Token.open(library=hsm.library(), label=LABEL, serial=None, pin=Pin("0000000000000000"))
        right = CountingPin(hsm.pin.reveal())
        with pytest.raises(PinRefused, match="before"):
            Token.open(library=hsm.library(), label=LABEL, serial=None, pin=right)
        assert right.reveal_count == 0

    def test_two_tokens_of_one_label_are_refused_until_a_serial_is_pinned(self, hsm: SoftHsm) -> None:
        serial = hsm.open_token().serial
        hsm.make_token()
        with pytest.raises(TokenRefused, match="2 tokens"):
            hsm.open_token()
        assert Token.open(library=hsm.library(), label=LABEL, serial=serial, pin=hsm.pin).serial == serial

    def test_token_with_another_serial_is_not_opened(self, hsm: SoftHsm) -> None:
        hsm.library().reinitialise()
        with pytest.raises(TokenAway, match="serial"):
            Token.open(library=hsm.library(), label=LABEL, serial=b"0000000000000000", pin=hsm.pin)

    def test_session_refuses_another_thread(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        seen: list[Exception] = []

        def use() -> None:
            try:
                session.random(8)
            except TokenRefused as error:
                seen.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert len(seen) == 1

    def test_pin_is_never_shown_nor_pickled(self, hsm: SoftHsm) -> None:
        secret = hsm.pin.reveal()
        assert secret not in f"{hsm.pin!r} {hsm.pin} {[hsm.pin]}"
        with pytest.raises(TypeError):
            pickle.dumps(hsm.pin)


class TestGenerations:
    def test_stale_key_refuses_to_sign_after_a_reconnect(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        key = SigningKey.open(session, made_key(session), Algorithm.P256)
        hsm.open_token()
        with pytest.raises(StaleGeneration):
            key.sign(b"with a handle that may name another key now")

    def test_key_is_found_again_after_a_reconnect(self, hsm: SoftHsm) -> None:
        ref = made_key(hsm.open_session())
        SigningKey.open(hsm.open_token().session(), ref, Algorithm.P256).sign(b"again")

    def test_library_comes_back_after_its_store_was_gone(self, hsm: SoftHsm) -> None:
        ref = made_key(hsm.open_session())
        hsm.unplug()
        with pytest.raises(TokenAway):
            hsm.open_token()
        with pytest.raises(TokenAway):
            hsm.library().tokens(LABEL)
        hsm.plug_in()
        SigningKey.open(hsm.open_token().session(), ref, Algorithm.P256).sign(b"back")

    def test_initialise_refuses_while_a_call_hangs_inside(self, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hsm_library, "CALLS_END_SECONDS_MAX", 0.01)
        library = hsm.library()
        with library.entered(library.generation), pytest.raises(LibraryBusy):
            library.reinitialise()
        library.reinitialise()

    def test_library_is_loaded_once(self, hsm: SoftHsm) -> None:
        assert hsm.library() is hsm.library()

    def test_missing_library_is_away(self) -> None:
        with pytest.raises(TokenAway):
            hsm_library.load("/nonexistent/libpkcs11.so")


class TestKeys:
    @pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.P256, Algorithm.P384])
    def test_made_key_stays_inside_and_cannot_be_given_another_use(self, hsm: SoftHsm, algorithm: Algorithm) -> None:
        session = hsm.open_session()
        handle = find_private_key(session, made_key(session, algorithm), Purpose.SIGN).handle
        assert handle[Attribute.LOCAL]
        for use in (Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE, Attribute.EXTRACTABLE):
            with pytest.raises(TokenAway), session.used("give another use"):
                handle[use] = True
        with pytest.raises(TokenAway), session.used("copy"):
            handle.copy({Attribute.EXTRACTABLE: True})

    def test_key_under_a_taken_id_is_not_made(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        made_key(session)
        with pytest.raises(KeyRefused, match="already holds"):
            made_key(session)

    def test_missing_key_is_missing(self, hsm: SoftHsm) -> None:
        with pytest.raises(KeyMissing):
            SigningKey.open(hsm.open_session(), KeyRef(key_id=b"no", public_sha256=bytes(32)), Algorithm.P256)

    def test_another_public_key_under_the_id_is_refused(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        ref = replace(made_key(session), public_sha256=bytes(32))
        with pytest.raises(KeyRefused, match="saw"):
            SigningKey.open(session, ref, Algorithm.P256)

    def test_key_of_another_algorithm_is_refused(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        with pytest.raises(KeyRefused, match="P-384"):
            SigningKey.open(session, made_key(session), Algorithm.P384)

    def test_two_keys_under_one_id_are_refused(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        ref = made_key(session)
        foreign_key(session, ref.key_id, {})
        with pytest.raises(KeyRefused, match="2 objects"):
            SigningKey.open(session, ref, Algorithm.P256)

    @pytest.mark.parametrize(
        ("flaw", "name"),
        [
            ({Attribute.EXTRACTABLE: True}, "EXTRACTABLE"),
            ({Attribute.SENSITIVE: False}, "SENSITIVE"),
            ({Attribute.DERIVE: True}, "DERIVE"),
            ({Attribute.DECRYPT: True}, "DECRYPT"),
            ({Attribute.UNWRAP: True}, "UNWRAP"),
            ({Attribute.TOKEN: False}, "TOKEN"),
        ],
    )
    def test_key_that_could_leave_or_be_misused_is_refused(
        self, hsm: SoftHsm, flaw: dict[Attribute, bool], name: str
    ) -> None:
        session = hsm.open_session()
        ref = foreign_key(session, b"f", flaw)
        with pytest.raises(KeyRefused, match=name):
            SigningKey.open(session, ref, Algorithm.P256)

    def test_key_that_was_extractable_once_is_refused(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        ref = foreign_key(session, b"f", {Attribute.EXTRACTABLE: True})
        with session.used("close the door after the horse") as raw:
            for handle in raw.get_objects({Attribute.ID: b"f", Attribute.EXTRACTABLE: True}):
                handle[Attribute.EXTRACTABLE] = False
        with pytest.raises(KeyRefused, match="NEVER_EXTRACTABLE"):
            SigningKey.open(session, ref, Algorithm.P256)

    def test_kek_that_wraps_and_decrypts_is_refused(self, hsm: SoftHsm) -> None:
        """Such a key exports every other key in two calls: wrap it, decrypt the result."""
        session = hsm.open_session()
        with session.used("make a bad key") as raw:
            uses = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.WRAP
            raw.generate_key(
                KeyType.AES, 256, id=b"kek", store=True, capabilities=uses, template={Attribute.EXTRACTABLE: False}
            )
        with pytest.raises(KeyRefused, match="WRAP"):
            GcmCipher(session, b"kek")

    def test_short_kek_is_refused(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        with session.used("make a short key") as raw:
            raw.generate_key(KeyType.AES, 128, id=b"kek", store=True)
        with pytest.raises(KeyRefused, match="AES-256"):
            GcmCipher(session, b"kek")


class TestSigning:
    def test_lying_token_is_caught(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        key = SigningKey.open(session, made_key(session), Algorithm.P256)
        other = SigningKey.open(session, made_key(session, key_id=b"o"), Algorithm.P256)
        key._found = replace(key._found, handle=other._found.handle)  # what a stale handle was seen to do
        with pytest.raises(SignatureUntrue):
            key.sign(b"a tree head")

    def test_private_half_of_another_key_is_caught_when_the_key_is_opened(self, hsm: SoftHsm) -> None:
        session = hsm.open_session()
        ref = made_key(session)
        made_key(session, key_id=b"o")
        with session.used("swap the private halves") as raw:
            for handle in raw.get_objects({Attribute.ID: b"k", Attribute.SIGN: True}):
                handle.destroy()
        foreign_private_key(session, b"k")
        with pytest.raises(SignatureUntrue):
            SigningKey.open(session, ref, Algorithm.P256)

    def test_ladder_takes_the_best_that_the_token_has(self, hsm: SoftHsm) -> None:
        mechanisms = hsm.open_token().mechanisms
        assert choose_classical(mechanisms) is Algorithm.ED25519
        assert choose_classical(mechanisms - {0x1055, 0x1057}) is CLASSICAL_LADDER[1]
        assert not is_supported(mechanisms, Algorithm.ML_DSA_87)
        with pytest.raises(MechanismMissing):
            choose_classical(frozenset())

    def test_mechanism_that_the_token_lacks_is_named(self, hsm: SoftHsm) -> None:
        with pytest.raises(MechanismMissing):
            generate_signing_key(hsm.open_session(), Algorithm.ML_DSA_87, key_id=b"pq", label="pq")


@pytest.fixture(params=["gcm", "ecdh"])
def cipher(request: pytest.FixtureRequest, hsm: SoftHsm) -> GcmCipher | EcdhCipher:
    session = hsm.open_session()
    if request.param == "gcm":
        generate_aes_key(session, key_id=b"kek", label="kek")
        return GcmCipher(session, b"kek")
    public_key = generate_derive_key(session, key_id=b"kek", label="kek")
    return EcdhCipher(session, KeyRef(key_id=b"kek", public_sha256=sha256(public_key).digest()))


class TestCipher:
    def test_blob_opens_to_what_was_wrapped(self, cipher: GcmCipher | EcdhCipher) -> None:
        for size in (1, 32, 4096):
            assert cipher.unwrap(cipher.wrap(b"\x5a" * size, b"purpose"), b"purpose") == b"\x5a" * size

    def test_every_changed_byte_is_a_data_error_and_the_token_stays_usable(
        self, cipher: GcmCipher | EcdhCipher
    ) -> None:
        blob = cipher.wrap(b"\x5a" * 32, b"purpose")
        for index in range(len(blob)):
            changed = blob[:index] + bytes([blob[index] ^ 1]) + blob[index + 1 :]
            with pytest.raises(BlobRefused):
                cipher.unwrap(changed, b"purpose")
        assert cipher.unwrap(blob, b"purpose") == b"\x5a" * 32

    def test_blob_of_another_purpose_is_refused(self, cipher: GcmCipher | EcdhCipher) -> None:
        with pytest.raises(BlobRefused):
            cipher.unwrap(cipher.wrap(b"seed", b"purpose"), b"other")

    @pytest.mark.parametrize("blob", [b"", b"\x01", b"\x02", b"\x03" + bytes(200), b"\x01" * 28, b"\x02" * 126])
    def test_what_is_no_blob_is_refused(self, cipher: GcmCipher | EcdhCipher, blob: bytes) -> None:
        with pytest.raises(BlobRefused):
            cipher.unwrap(blob, b"purpose")

    def test_same_plaintext_never_gives_the_same_blob(self, cipher: GcmCipher | EcdhCipher) -> None:
        assert len({cipher.wrap(b"seed", b"purpose") for _ in range(8)}) == 8

    def test_lost_token_is_not_taken_for_a_changed_blob(self, cipher: GcmCipher | EcdhCipher, hsm: SoftHsm) -> None:
        blob = cipher.wrap(b"seed", b"purpose")
        hsm.unplug()
        with pytest.raises(TokenAway):
            cipher.unwrap(blob, b"purpose")
        hsm.plug_in()

    def test_rung_follows_the_token(self, hsm: SoftHsm) -> None:
        mechanisms = hsm.open_token().mechanisms
        assert choose_rung(mechanisms) == 1
        assert choose_rung(mechanisms - {0x1087}) == 2
        with pytest.raises(MechanismMissing):
            choose_rung(mechanisms - {0x1087, 0x1050})


class CountingPin(Pin):
    """A PIN that knows how often it was shown to C_Login, its only reader."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.reveal_count = 0

    def reveal(self) -> str:
        self.reveal_count += 1
        return super().reveal()


def foreign_key(session: Session, key_id: bytes, flaw: dict[Attribute, bool]) -> KeyRef:
    """A P-256 key that somebody else's tool made, with one flaw."""
    public_key = foreign_pair(session, key_id, flaw)[0]
    point = bytes(public_key[Attribute.EC_POINT])[2:]
    prefix = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
    return KeyRef(key_id=key_id, public_sha256=sha256(prefix + point).digest())


def foreign_private_key(session: Session, key_id: bytes) -> None:
    """Only the private half, well made, under an id that has a public half already."""
    public_key, _private_key = foreign_pair(session, key_id, {})
    with session.used("drop the public half"):
        public_key.destroy()


def foreign_pair(session: Session, key_id: bytes, flaw: dict[Attribute, bool]) -> tuple[Any, Any]:
    template = {Attribute.EXTRACTABLE: False, Attribute.SIGN_RECOVER: False, Attribute.DERIVE: False, **flaw}
    with session.used("make a foreign key") as raw:
        curve = {Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}
        pair: tuple[Any, Any] = raw.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
            id=key_id, store=True, capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY, private_template=template
        )
    return pair
