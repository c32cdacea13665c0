"""Whose key this is: asks Stripe which account the key opens, and compares it with the one that the settings name.

Never stops the start: an outage is waited for, and cards are taken meanwhile as ever. Only a plain answer counts: a key
that is refused, or that opens another account. The key itself is never told to anybody.

Source: docs.stripe.com/api/accounts/retrieve (without a name: the key's own account), docs.stripe.com/api/errors.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.adapters.breaker import BackOff
from appliance.adapters.provider_http import Reply, read
from appliance.adapters.stripe_session import StripeSession
from appliance.model.limits import HOUR_MS, MINUTE_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log

ASK_S_MAX: Final = 10.0
AGAIN_MS: Final = HOUR_MS
"""A key can be revoked while we run."""
_BACK_OFF: Final = BackOff(first_ms=1_000, cap_ms=5 * MINUTE_MS)

AccountKind = Literal["unasked", "away", "ok", "unnamed", "unreadable", "refused", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """What is known of the key: `refused` and `foreign` are final until somebody acts; `sentence` is for people.

    Attributes:
        account: which account and mode the key opens, where Stripe said it.
    """

    kind: AccountKind
    sentence: str
    account: str | None = None

    @property
    def is_wrong(self) -> bool:
        return self.kind in ("refused", "foreign")


class _Account(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern=r"\Aacct_[0-9A-Za-z]{1,64}\Z")]


class AccountWatch:
    """One service. Attributes: `state`, the last plain answer, or that there was none yet."""

    def __init__(self, *, session: StripeSession, expected: str, clock: Clock, log: Log) -> None:
        self._session = session
        self._expected = expected
        self._clock = clock
        self._log = log
        self.state = AccountState(kind="unasked", sentence="Stripe was not asked yet whose key this is.")

    async def run(self) -> None:
        """Ask until there is a plain answer, then every hour."""
        failure_count = 0
        while True:
            found = await self.ask()
            is_plain = found.kind != "away"
            if is_plain or self.state.kind == "unasked":
                if found.kind != self.state.kind:
                    self._log.info("provider.account_checked", kind=found.kind)
                self.state = found
            failure_count = 0 if is_plain else failure_count + 1
            await self._clock.sleep(AGAIN_MS if is_plain else _BACK_OFF.after(failure_count, 1.0))

    async def ask(self) -> AccountState:
        """Ask once."""
        try:
            async with asyncio.timeout(ASK_S_MAX):
                reply = await self._session.ask("get", "/v1/account")
        except TimeoutError:
            return _away("it did not answer in time")
        if not isinstance(reply, Reply):
            return _away(reply.reason)
        if reply.status == 401:
            return AccountState(kind="refused", sentence="Stripe refuses this box's key: cards are not taken.")
        if reply.status == 403:
            return AccountState(kind="unreadable", sentence="Stripe does not let this key say whose it is.")
        account: _Account | None = read(reply.body, _Account) if reply.is_success else None
        if account is None:
            return _away(f"status {reply.status}")
        # One account has two sides that know nothing of each other's payments.
        opened = f"{account.id} {'live' if self._session.is_live else 'test'}"
        if not self._expected:
            sentence = f"Stripe's account is {account.id}; the settings name none."
            return AccountState(kind="unnamed", sentence=sentence, account=opened)
        if account.id != self._expected:
            return AccountState(
                kind="foreign",
                sentence=f"The key opens Stripe's account {account.id}, the settings name {self._expected}:"
                " cards are not taken.",
                account=opened,
            )
        return AccountState(kind="ok", sentence=f"The key opens Stripe's account {account.id}.", account=opened)


def _away(why: str) -> AccountState:
    return AccountState(kind="away", sentence=f"Stripe could not be asked whose key this is ({why}).")
