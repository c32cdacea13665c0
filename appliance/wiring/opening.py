"""Opens what a box stands on: the log with its projections, and the provider of card money where one is set up."""

from __future__ import annotations

from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_session import StripeSettings
from appliance.config.load import read_secret
from appliance.config.schema import Settings
from appliance.device.epochs import epoch_draft
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.ledger.room import Room
from appliance.ports.clock import Clock
from appliance.ports.provider import Provider
from appliance.wiring.projections import projections
from appliance.wiring.trust import Trust


async def open_ledger(settings: Settings, trust: Trust, clock: Clock) -> Ledger:
    """The log, recovered or begun."""
    epoch = 1 if trust.sealer is None else await trust.sealer.epoch()
    now_ms = clock.now_ms()
    return await Ledger.open(
        settings.storage.path,
        signers=trust.signers,
        projections=projections(),
        clock=clock,
        store_key=trust.store_key,
        beginning=Beginning(genesis=trust.genesis, created_ms=now_ms, first=epoch_draft(epoch, now_ms)),
        room=Room(folder=settings.storage.path, clock=clock, free_bytes_min=settings.storage.room_bytes_min),
    )


async def open_provider(settings: Settings, clock: Clock) -> Provider | None:
    """Who moves card money; None where nobody is set up."""
    stripe = settings.provider.stripe
    if stripe is None:
        return None
    return await StripeProvider.open(
        settings=StripeSettings(api_base=stripe.api_base, api_key=read_secret(stripe.api_key_path)), clock=clock
    )
