"""A box that has sold nothing yet, made once for all worlds of a run: owner, keys, genesis, paired tills."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerKey
from appliance.crypto.signing_key import SigningKey, TerminalKey, ed25519_from_seed, ml_dsa_87_from_seed
from appliance.device.epochs import epoch_draft
from appliance.identity.terminals import Terminals
from appliance.ledger.genesis import STATEMENT_KIND, GenesisStatement, SignedGenesis
from appliance.ledger.head import LogSigners
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.ledger.trust import encode_trust
from appliance.model.ids import terminal_id
from appliance.wiring.projections import projections
from tests.fakes.clock import START_MS, FakeClock
from tests.unit.ledger.shop import SeededSigner

AUDIENCE: Final = "corner-shop.example/WORLD-1/1"
STORE_KEY: Final = bytes(range(32))
TILLS: Final = ("till-1", "till-2", "till-3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The log's two keys: the same in each world, so that a template may be made in another process."""

    classical: SigningKey
    post_quantum: SigningKey

    @classmethod
    def make(cls) -> Self:
        return cls(classical=ed25519_from_seed(bytes(32)), post_quantum=ml_dsa_87_from_seed(bytes(32)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Files of the template: `ledger/`, `trust.json`, one key for each till."""

    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def trust(self) -> bytes:
        return (self.folder / "trust.json").read_bytes()

    def till_key(self, name: str) -> TerminalKey:
        return TerminalKey.load((self.folder / f"{name}.pem").read_bytes())

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Write it; takes a second or two, for the owner's hash-based signature."""
        template = cls(folder=folder)
        keys, owner = Keys.make(), OwnerKey.generate()
        statement = GenesisStatement(
            origin=AUDIENCE,
            created_ms=START_MS,
            keys=HybridPublic(
                classical=PinnedKey(algorithm=cose.ED25519, public_key=keys.classical.public_key),
                post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=keys.post_quantum.public_key),
            ),
            note_key=keys.classical.public_key,
        ).encode()
        signature = owner.sign_statement(STATEMENT_KIND, statement).encode()
        genesis = SignedGenesis(statement=statement, owner_signature=signature)
        (folder / "trust.json").write_bytes(encode_trust(owner.public, [genesis]))
        for name in TILLS:
            (folder / f"{name}.pem").write_bytes(TerminalKey.generate().to_pem())
        asyncio.run(template._pair(genesis, keys))
        (template.ledger / "ledger.lock").unlink()
        return template

    async def _pair(self, genesis: SignedGenesis, keys: Keys) -> None:
        clock = FakeClock()
        ledger = await Ledger.open(
            self.ledger,
            signers=LogSigners(classical=SeededSigner(keys.classical), post_quantum=SeededSigner(keys.post_quantum)),
            projections=projections(),
            clock=clock,
            store_key=STORE_KEY,
            beginning=Beginning(genesis=genesis, created_ms=START_MS, first=epoch_draft(1, START_MS)),
        )
        terminals = Terminals(ledger=ledger, clock=clock)
        for name in TILLS:
            await terminals.pair(terminal_id(name), self.till_key(name).public_key)
        await ledger.close()
