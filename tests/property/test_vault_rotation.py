"""Whatever is kept, forgotten, moved and cut off by a crash, in any order: what is kept opens, what is gone is gone."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import Rejected
from appliance.model.ids import ProviderName
from appliance.model.provider_token import NAME_BYTES, TokenBinding, TokenPurpose, token_name
from appliance.payment.vault.safe import Safe
from tests.fakes.cipher import FakeCipher

MASTER = bytes(range(32))
STEPS = st.lists(
    st.sampled_from(["keep", "forget", "make", "reseal", "close", "remove", "crash", "hsm away", "hsm back"]),
    max_size=30,
)


def binding(number: int) -> TokenBinding:
    return TokenBinding(
        name=token_name(number.to_bytes(NAME_BYTES)), provider=ProviderName("stripe"), purposes=(TokenPurpose.SALE,)
    )


class Model:
    """A safe, and beside it what it must hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hsm = FakeCipher(MASTER)
        self.safe = self.open()
        self.kept: dict[int, bytes] = {}
        self.count = 0

    def open(self) -> Safe:
        return Safe(folder=self.folder, cipher=self.hsm, is_ready=lambda: self.hsm.is_there)

    async def take(self, step: str) -> None:
        keys = await self.safe.keys()
        usable = [each.key_id for each in keys if not each.is_closed]
        match step:
            case "crash":
                await self.safe.close()
                self.safe = self.open()
            case "hsm away" | "hsm back":
                self.hsm.is_there = step == "hsm back"
            case "make" if self.hsm.is_there:
                await self.safe.make_key(len(keys))
            case "keep" if usable and self.hsm.is_there:
                self.count += 1
                # Under any key that takes it, also one that is being left: a keep that began before the rotation.
                key_id = usable[self.count % len(usable)]
                if await self.safe.put(binding(self.count), b"pm_%d" % self.count, key_id):
                    self.kept[self.count] = b"pm_%d" % self.count
            case "forget" if self.kept:
                number = min(self.kept)
                del self.kept[number]
                await self.safe.drop([binding(number).name])
            case "reseal" if usable and self.hsm.is_there:
                assert (await self.safe.reseal(usable[-1], after="")).unreadable == ()
            case "close":
                for each in keys:
                    assert await self.safe.close_key(each.key_id) is (each.tokens == 0)
            case "remove":
                for each in keys:
                    await self.safe.remove_key(each.key_id)  # one that is in use is not closed, and stays
            case _:
                return

    async def check(self) -> None:
        self.hsm.is_there = True
        assert await self.safe.names() == {binding(number).name for number in self.kept}
        for number, token in self.kept.items():
            assert await self.safe.open(binding(number)) == token
        gone = binding(self.count + 1)
        try:
            await self.safe.open(gone)
        except Rejected:
            pass
        else:
            raise AssertionError("a token that was never kept opens")
        assert sum(each.tokens for each in await self.safe.keys()) == len(self.kept)


async def live(steps: list[str], folder: Path) -> None:
    model = Model(folder)
    try:
        for step in ["make", "keep", *steps]:
            await model.take(step)
        await model.check()
    finally:
        await model.safe.close()


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_what_is_kept_opens_and_what_is_gone_is_gone(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(steps, Path(folder)))
