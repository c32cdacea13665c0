"""A terminal that demands a proof sends no payment without one, and asks for one as often as its keeper said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.runtime.deadline import Deadline
from appliance.wire.attestation import Attestation
from provisioning.owner.statements import sign
from provisioning.terminal.attested import BoxProof
from provisioning.terminal.home import Attesting, Profile, TerminalHome
from tests.fakes.attested import KEY, NONCE, RELEASE, TLS, attestation, changed, trust
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import genesis, owner

HOUR_MS = 3_600_000


class Box:
    """Answers as it was told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.says: Callable[[], Attestation] = attestation

    async def ask(self, nonce: bytes, _deadline: Deadline) -> Attestation:
        assert nonce == NONCE
        self.asked += 1
        return self.says()


class Till:
    """A paired terminal's home, its clock and its box."""

    def __init__(self, folder: Path, **demands: Any) -> None:
        self.home, self.clock, self.box = TerminalHome(folder=folder), FakeClock(), Box()
        folder.mkdir(mode=0o700)
        self.home.keep_trust(trust().encode().decode())
        self.home.keep_profile(
            Profile(
                url="https://127.0.0.1:9",
                terminal="till-1",
                audience=genesis().read().origin,
                currency="EUR",
                certificate_sha256=TLS.hex(),
            )
        )
        if demands:
            self.home.keep_attesting(Attesting(**demands))
        self._proof = BoxProof(home=self.home, clock=self.clock, random=lambda _count: NONCE)

    def require(self, **now: Any) -> None:
        asyncio.run(self._proof.require(self.box.ask, Deadline.after(self.clock, 1_000), **now))


@pytest.fixture
def till(tmp_path: Path) -> Till:
    return Till(tmp_path / "till", age_max_ms=HOUR_MS, releases=(sign(owner(), RELEASE).file,))


def test_proof_is_asked_for_once_in_its_time_and_survives_a_restart(till: Till) -> None:
    till.require()
    till.require()
    assert till.box.asked == 1
    kept = till.home.attesting()
    assert kept is not None
    assert kept.believed is not None
    assert (kept.believed.key, kept.believed.reset, kept.believed.at_ms) == (KEY.name.hex(), 5, till.clock.now_ms())
    till.clock.pass_time(HOUR_MS)
    till.require()
    assert till.box.asked == 2


def test_clock_that_went_back_makes_no_proof_younger(till: Till) -> None:
    till.require()
    till.clock.step(-HOUR_MS)
    till.require()
    assert till.box.asked == 2


def test_payment_may_demand_more_than_its_home(till: Till) -> None:
    till.require()
    till.require(age_max_ms=0)
    assert till.box.asked == 2


def test_who_demands_nothing_asks_nothing(tmp_path: Path) -> None:
    till = Till(tmp_path / "till")
    till.require()
    assert till.box.asked == 0
    till.require(age_max_ms=0)
    assert (till.box.asked, till.home.attesting()) == (1, None)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("attestation_nonce_wrong", lambda: attestation(nonce=bytes(32))),
        ("attestation_door_wrong", lambda: attestation(tls=bytes(32))),
        ("attestation_not_certified", lambda: attestation(certificate=None)),
        ("release_unknown", lambda: attestation(image="tillstone 0.0.9 release")),
        ("quote_signature", lambda: changed(attestation(), quote=attestation().quote + b"\x00")),
    ],
)
def test_box_that_is_not_believed_gets_no_payment(till: Till, code: str, says: Callable[[], Attestation]) -> None:
    till.box.says = says
    with pytest.raises(Rejected) as refused:
        till.require()
    assert refused.value.code == code
    kept = till.home.attesting()
    assert kept is not None
    assert kept.believed is None


def test_counts_never_go_back_between_two_proofs(till: Till) -> None:
    till.require()
    till.clock.pass_time(HOUR_MS)
    till.box.says = lambda: attestation(quoted={"reset": 4})
    with pytest.raises(Rejected) as refused:
        till.require()
    assert refused.value.code == "quote_reset_count"


def test_box_that_does_not_answer_gets_no_payment(till: Till) -> None:
    def away() -> Attestation:
        raise Unavailable("tpm_away", "no TPM")

    till.box.says = away
    with pytest.raises(Unavailable):
        till.require()


def test_damaged_demand_is_not_taken_for_none(till: Till) -> None:
    till.home.attesting_file.write_text("{}")
    with pytest.raises(Rejected) as refused:
        till.require()
    assert refused.value.code == "attesting_malformed"


def test_release_of_another_owner_in_the_home_is_refused(tmp_path: Path) -> None:
    till = Till(tmp_path / "till", age_max_ms=HOUR_MS, releases=(sign(owner(), RELEASE).file[:-1],))
    with pytest.raises(Rejected):
        till.require()
