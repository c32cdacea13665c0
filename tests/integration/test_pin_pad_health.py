"""What health says of PIN pads: how old its word is, and that whoever mends one sees it soon."""

from __future__ import annotations

from pathlib import Path

from appliance.config.pin_pad import PinPads
from appliance.device.health import Level
from appliance.model.ids import ProviderKey
from appliance.model.money import Money
from appliance.ports.provider import NotSent, Offer, Offered
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import supervised
from appliance.wiring.pin_pads import PinPadParts
from tests.fakes.clock import FakeClock
from tests.integration.pad_desk import ANSWER_S, does, names
from tests.pin_pad_here import PAD, PinPadHere
from tests.until import until


async def test_health_says_how_old_its_word_is_and_a_sale_at_a_mended_pin_pad_mends_it() -> None:
    clock = FakeClock()
    settings = PinPads(pads=(f"{PAD} tcp:192.0.2.1:1",), tills=(f"till-1 {PAD}",), password_path=Path("unread"))
    async with PinPadHere(clock=clock) as here:
        here.use_by_hand(500)
        pads = here.provider(answer_s=ANSWER_S)
        parts = PinPadParts(pads, settings, clock=clock, metrics=Metrics())
        (check,) = parts.checks
        assert check().sentence == "Not every PIN pad was asked yet."
        async with supervised(log=Log(sink=lambda _line: None, clock=clock), clock=clock) as supervisor:
            parts.begin(supervisor)
            await until("the look after this one", lambda: clock.sleeper_count > 0)
            await clock.advance(7_000)
            assert check().sentence == "Every PIN pad answered, the longest ago 7 s."
            does(here, "off")
            await clock.advance(24_000)
            await until("a PIN pad that does not answer", lambda: check().level is Level.COPING)
            assert "does not answer" in check().sentence
            does(here, "approve")
            await until("the look after this one", lambda: clock.sleeper_count > 0)
            offer = Offer(provider_key=ProviderKey("k"), reference=names(), amount=Money(100, "EUR"))
            clock.pass_time(1_000)
            assert isinstance(await pads.offer(offer), Offered)
            assert check().level is Level.OK, "the sale heard it; nobody waits for the next look"


async def test_a_look_that_is_answered_ends_what_a_sale_said_of_silence() -> None:
    async with PinPadHere() as here:
        here.use_by_hand(500)
        pads = here.provider(answer_s=ANSWER_S)
        does(here, "off")
        offer = Offer(provider_key=ProviderKey("k"), reference=names(), amount=Money(100, "EUR"))
        assert await pads.offer(offer) == NotSent(reason="pad_silent")
        assert pads.refusals == {PAD: "pad_silent"}
        does(here, "approve")
        assert await pads.answers(PAD)
        assert pads.refusals == {}
