"""Opens what a box stands on: the log with its projections, and the provider of card money where one is set up."""

from __future__ import annotations

import random

from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_reader import is_reader
from appliance.adapters.stripe_session import StripeSettings
from appliance.config.card_provider import Stripe
from appliance.config.load import read_secret
from appliance.config.schema import Settings
from appliance.device.epochs import epoch_draft
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.ledger.room import Room
from appliance.model.ids import TerminalId
from appliance.payment.readers import Readers
from appliance.ports.clock import Clock
from appliance.ports.provider import CardSource, Provider
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
    return await StripeProvider.open(settings=stripe_settings(stripe), clock=clock, jitter=random.SystemRandom())


def stripe_settings(stripe: Stripe) -> StripeSettings:
    """Where Stripe answers, with the key out of its file."""
    return StripeSettings(
        api_base=stripe.api_base,
        api_key=read_secret(stripe.api_key_path),
        reader_wait_ms=stripe.reader_wait_ms,
    )


def readers_of(stripe: Stripe | None) -> Readers:
    """The card readers that the settings bind to tills."""
    lines = () if stripe is None else stripe.readers
    return Readers(
        bound={TerminalId(line.split()[0]): CardSource(line.split()[1]) for line in lines},
        is_reader=is_reader,
        is_default=stripe is not None and stripe.payment_source_default == "",
    )
