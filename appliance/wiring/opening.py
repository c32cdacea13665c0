"""Opens what a box stands on: the log with its projections, and the provider of card money where one is set up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.adapters.coinbase import CoinbaseProvider
from appliance.adapters.coinbase_session import CoinbaseSession, CoinbaseSettings
from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_session import PayPalSession, PayPalSettings
from appliance.adapters.pin_pad import PinPadProvider
from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_reader import is_reader
from appliance.adapters.stripe_session import StripeSettings
from appliance.config.card_provider import Stripe
from appliance.config.coinbase import Coinbase
from appliance.config.load import read_secret
from appliance.config.outbound import Outbound
from appliance.config.paypal import PayPal
from appliance.config.schema import Settings
from appliance.device.epochs import epoch_draft
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.ledger.room import Room
from appliance.model.ids import ProviderName, TerminalId
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.sale import TenderKind
from appliance.payment.readers import Readers
from appliance.ports.clock import Clock
from appliance.ports.provider import CardSource, Forwards, Holds, Offers, Provider
from appliance.runtime.metrics import Metrics
from appliance.wiring.pin_pads import PIN_PAD, PinPadParts, open_pin_pads
from appliance.wiring.projections import projections
from appliance.wiring.trust import Trust

PAYPAL: Final = ProviderName("paypal")
COINBASE: Final = ProviderName("coinbase")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A provider that can be asked.

    Attributes:
        offers: the same one where customers agree there first.
        holds: the same one where money can be held there.
        forwards: the same one where cards may be accepted offline.
        is_paid_by_customer: customers move the money there themselves.
        account: what the settings name that belongs to one account for good; None: they name no such thing.
    """

    tender: TenderKind
    provider: Provider
    offers: Offers | None = None
    holds: Holds | None = None
    forwards: Forwards | None = None
    is_paid_by_customer: bool = False
    account: str | None = None


async def open_providers(settings: Settings, ledger: Ledger, clock: Clock) -> dict[ProviderName, Opened]:
    """Who moves money for which tender, by the name of the settings' section; intents keep the name."""
    opened: dict[ProviderName, Opened] = {}
    stripe = settings.provider.stripe
    if stripe is not None:
        cards = await StripeProvider.open(
            settings=stripe_settings(stripe, settings.outbound), clock=clock, jitter=random.SystemRandom()
        )
        opened[FIRST_PROVIDER] = Opened(tender=TenderKind.CARD, provider=cards, holds=cards)
    paypal = settings.provider.paypal
    if paypal is not None:
        offers = open_paypal(paypal, settings.outbound, clock)
        opened[PAYPAL] = Opened(
            tender=TenderKind.PAYPAL, provider=offers, offers=offers, account=f"app {paypal.client_id}"
        )
    coinbase = settings.provider.coinbase
    if coinbase is not None:
        usdc = open_coinbase(coinbase, settings.outbound, clock)
        opened[COINBASE] = Opened(
            tender=TenderKind.USDC, provider=usdc, is_paid_by_customer=True, account=_coinbase_account(coinbase)
        )
    pin_pad = settings.provider.pin_pad
    if pin_pad is not None:
        pads = open_pin_pads(pin_pad, settings, ledger, clock)
        forwards = pads if pin_pad.accepts_offline else None
        opened[PIN_PAD] = Opened(tender=TenderKind.PIN_PAD, provider=pads, offers=pads, forwards=forwards)
    return opened


def _coinbase_account(coinbase: Coinbase) -> str:
    """A key is of one account for good; the test place knows nothing of what was paid for real."""
    return f"key {coinbase.key_name} {'test' if coinbase.api_base.rstrip('/').endswith('/sandbox') else 'live'}"


def pin_pad_parts(
    settings: Settings, opened: Mapping[ProviderName, Opened], *, clock: Clock, metrics: Metrics
) -> PinPadParts:
    """What stands beside the PIN pads that were opened."""
    found = opened.get(PIN_PAD)
    provider = None if found is None else found.provider
    pads = provider if isinstance(provider, PinPadProvider) else None
    return PinPadParts(pads, settings.provider.pin_pad, clock=clock, metrics=metrics)


def open_paypal(paypal: PayPal, outbound: Outbound, clock: Clock) -> PayPalProvider:
    """Make ready to ask PayPal; nothing is asked yet."""
    return PayPalProvider(
        session=PayPalSession(settings=paypal_settings(paypal, outbound), clock=clock),
        clock=clock,
        jitter=random.SystemRandom(),
        customer_wait_ms=paypal.customer_wait_ms,
    )


def paypal_settings(paypal: PayPal, outbound: Outbound) -> PayPalSettings:
    """Where PayPal answers, with the secret out of its file."""
    return PayPalSettings(
        api_base=paypal.api_base,
        client_id=paypal.client_id,
        client_secret=read_secret(paypal.client_secret_path),
        customer_wait_ms=paypal.customer_wait_ms,
        proxy=outbound.proxy_for(paypal.api_base),
    )


def open_coinbase(coinbase: Coinbase, outbound: Outbound, clock: Clock) -> CoinbaseProvider:
    """Make ready to ask Coinbase; nothing is asked yet."""
    settings = CoinbaseSettings(
        api_base=coinbase.api_base,
        key_name=coinbase.key_name,
        key=read_secret(coinbase.key_path),
        proxy=outbound.proxy_for(coinbase.api_base),
    )
    return CoinbaseProvider(
        session=CoinbaseSession(settings=settings, clock=clock),
        clock=clock,
        jitter=random.SystemRandom(),
        customer_wait_ms=coinbase.customer_wait_ms,
    )


def stripe_settings(stripe: Stripe, outbound: Outbound) -> StripeSettings:
    """Where Stripe answers, with the key out of its file."""
    return StripeSettings(
        api_base=stripe.api_base,
        api_key=read_secret(stripe.api_key_path),
        proxy=outbound.proxy_for(stripe.api_base),
        reader_wait_ms=stripe.reader_wait_ms,
    )


def readers_of(settings: Settings) -> Readers:
    """The card readers and PIN pads that the settings bind to tills."""
    stripe, pads = settings.provider.stripe, settings.provider.pin_pad
    lines = () if stripe is None else stripe.readers
    bound = {} if pads is None else pads.bound()
    return Readers(
        bound={TerminalId(line.split()[0]): CardSource(line.split()[1]) for line in lines},
        pads={TerminalId(till): CardSource(pad) for till, pad in bound.items()},
        is_reader=is_reader,
        is_default=stripe is not None and stripe.payment_source_default == "",
    )
