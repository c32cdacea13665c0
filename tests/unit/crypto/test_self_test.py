"""Known-answer self-tests: all pass here, and each one can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.crypto import approved, self_test
from appliance.crypto.self_test import SelfTest
from appliance.model.errors import Corrupt


def test_every_algorithm_gives_its_known_answer() -> None:
    results = self_test.run_all()
    assert [result.name for result in results] == [test.name for test in self_test.TESTS]


@pytest.mark.parametrize("test", self_test.TESTS, ids=[test.name for test in self_test.TESTS])
@pytest.mark.parametrize("at", [0, -1])
def test_a_wrong_answer_stops_the_start_with_its_name(test: SelfTest, at: int) -> None:
    answer = bytearray(test.answer())
    answer[at] ^= 1
    with pytest.raises(Corrupt) as failure:
        self_test.run_all([replace(test, answer=lambda: bytes(answer))])
    assert failure.value.code == "self_test_failed"
    assert test.name in failure.value.detail


def test_a_library_that_breaks_in_any_way_fails_its_test() -> None:
    def broken(_: bytes) -> None:
        raise MemoryError

    with pytest.raises(Corrupt) as failure:
        self_test.run_all([SelfTest(name="broken", answer=bytes, run=broken)])
    assert failure.value.code == "self_test_failed"


def test_every_algorithm_in_use_has_a_self_test() -> None:
    names = {test.name for test in self_test.TESTS}
    for use in approved.USES:
        assert use.self_test in names or not use.is_approved
