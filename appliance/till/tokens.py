"""Provider tokens at a till: handed to the vault once, looked at by name, forgotten. A card tender's source names one.

Rules:
- The token goes into the vault and nowhere else. Of the signed request that brought it the log keeps the hash, not the
  bytes: those would hold the token.
- A token that a customer is named with is bound to that person: erasing the person erases it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from appliance.crypto.random import random_piece
from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.draft import Purpose
from appliance.ledger.guard import AllOf, Guard
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderName
from appliance.model.invariants import present
from appliance.model.payment import AuthenticatedRequest, Identity
from appliance.model.provider_token import TokenBinding, TokenName, TokenPurpose, is_token_name, token_name
from appliance.payment.drafts import ask, draft, persons
from appliance.payment.guards import unused
from appliance.payment.respond import receipt_in_time
from appliance.payment.vault.rows import StandingToken, SubjectKnown, TokenState, TokenUsable, require_token
from appliance.payment.vault.vault import Vault
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.till.entries import read_token
from appliance.till.repeats import once
from appliance.wire import vault_entries
from appliance.wire.answers import TokenAnswer, VaultState
from appliance.wire.requests import TokenBody

_NEVER_EXPIRES: Final = 0
"""As the time of forgetting: an expired token may be forgotten too."""


class Tokens:
    """The verb `token`.

    Args:
        provider: whose tokens are kept: the one that takes cards; None where nobody does.
    """

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        admission: Admission,
        ledger: Ledger,
        vault: Vault,
        provider: ProviderName | None,
        clock: Clock,
    ) -> None:
        self._authenticate = authenticate
        self._admission = admission
        self._ledger = ledger
        self._vault = vault
        self._provider = provider
        self._clock = clock

    async def act(self, signed: SignedRequest) -> TokenAnswer:
        """Keep, show or forget one. The same request again gets the same answer, with the same name.

        Raises:
            Rejected: what `_validate` and the guards refuse; nothing was kept.
            Unavailable: `vault_closed`.
        """
        request = await self._authenticate(signed, TokenBody)
        self._validate(request.body)
        if request.body.act == "show":
            return await self._shown(request, _name_of(request.body))
        write = self._keep if request.body.act == "keep" else self._forget
        known = await once(self._ledger, self._admission, request.identity, lambda: write(request))
        name = await self._ledger.read(lambda connection: read_token(connection, known.seq))
        receipt = await receipt_in_time(self._ledger, [known.seq])
        return await self._shown(request, name, seq=known.seq, receipt=receipt)

    async def _keep(self, request: AuthenticatedRequest[TokenBody]) -> None:
        self._admission.admit()
        if self._provider is None:
            raise Rejected("cards_not_taken", "no provider whose tokens could be kept is set up on this box")
        body, identity = request.body, request.identity
        binding = TokenBinding(
            name=token_name(random_piece()),
            provider=self._provider,
            purposes=tuple(sorted({TokenPurpose(purpose) for purpose in body.purposes})),
        )
        under = None if body.customer is None else await self._subject_key(body.customer)
        asked, disclosures = ask(_without_token(identity), persons(cashier=body.cashier, customer=body.customer))
        entry = vault_entries.TokenKeptEntry(
            name=binding.name,
            asked=asked,
            under=under,
            expires=body.expires_ms,
            provider=binding.provider,
            purposes=binding.purposes,
        )
        new = draft(vault_entries.KEPT, identity.terminal, self._clock.now_ms(), entry, disclosures)
        fresh = unused(identity.key)
        guard: Guard = fresh if under is None else AllOf(guards=(fresh, SubjectKnown(key_id=under)))

        async def record() -> None:
            await self._ledger.append([new], guard, purpose=Purpose.INTENT)

        await self._vault.keep(binding, (body.token or "").encode(), record)

    async def _subject_key(self, customer: str) -> int:
        values = present(self._ledger.vault, "a box keeps personal values")
        return await values.key_id(f"customer:{customer}")

    async def _forget(self, request: AuthenticatedRequest[TokenBody]) -> None:
        body, identity = request.body, request.identity
        name = _name_of(body)
        asked, disclosures = ask(identity, persons(cashier=body.cashier))
        entry = vault_entries.TokenForgottenEntry(name=name, asked=asked, reason=body.reason)
        new = draft(vault_entries.FORGOTTEN, identity.terminal, self._clock.now_ms(), entry, disclosures)
        guard = AllOf(guards=(unused(identity.key), TokenUsable(name=name, now_ms=_NEVER_EXPIRES)))
        await self._ledger.append([new], guard, purpose=Purpose.OUTCOME)
        await self._vault.remove(name)

    async def _shown(
        self,
        request: AuthenticatedRequest[TokenBody],
        name: TokenName,
        *,
        seq: int | None = None,
        receipt: bytes | None = None,
    ) -> TokenAnswer:
        standing = await self._ledger.read(lambda connection: require_token(connection, name))
        now_ms = self._clock.now_ms()
        return TokenAnswer(
            key=str(request.identity.key),
            act=request.body.act,
            seq=seq,
            name=name,
            state=_state(standing, now_ms),
            provider=standing.binding.provider,
            purposes=standing.binding.purposes,
            expires_ms=standing.expires_ms,
            now_ms=now_ms,
            pending=seq is not None and receipt is None,
            receipt=receipt,
        )

    def _validate(self, body: TokenBody) -> None:
        refuse_card_numbers((body.token or "", body.reason, body.cashier or "", body.customer or ""))
        if body.act != "keep":
            if body.token is not None:
                raise Rejected("token_misplaced", "a token is handed in once, by keep; afterwards it goes by its name")
            _name_of(body)
            return
        if body.token is None or body.name is not None:
            raise Rejected("token_missing", "keep brings the provider's token, and the box makes the name")
        if is_token_name(body.token):
            raise Rejected("token_missing", "this is a name that the vault gave, not a provider's token")
        if not body.purposes:
            raise Rejected("token_purpose_missing", "a token is kept for sale, for hold, or for both")
        if body.expires_ms is not None and body.expires_ms <= self._clock.now_ms():
            raise Rejected("token_expired", "a token that is kept ends in the future")


def _without_token(identity: Identity) -> Identity:
    """The request as its hash: what can be compared with the request, and holds nothing of it."""
    return replace(identity, signed=hashlib.sha256(identity.signed).digest())


def _name_of(body: TokenBody) -> TokenName:
    if body.name is None or not is_token_name(body.name):
        raise Rejected("token_name_malformed", "expected a token's name as keep answered it: tok_ and 26 characters")
    return TokenName(body.name)


def _state(standing: StandingToken, now_ms: int) -> VaultState:
    if standing.state is TokenState.KEPT and standing.has_expired(now_ms):
        return "expired"
    return standing.state.value
