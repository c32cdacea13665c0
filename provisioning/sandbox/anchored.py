"""`make evidence`: a shop whose log is witnessed, published and in a block; from one sale to a bundle for a stranger.

Owns the order: the real nodes first, then the shop, one sale, and waiting until everybody outside has done his part.
All of it is new each time and gone afterwards; what stays is in `build/`. Only the owner is the ordinary sandbox's, so
that one `build/trust.json` serves what `make pay` keeps there too; the box is another one, with its own serial. The
chain is regtest: its blocks prove that the machinery works, and no more.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from appliance.crypto import hpke
from appliance.evidence.block import REGTEST
from appliance.evidence.bundle import EvidenceBundle, read_bundle
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy
from appliance.evidence.transaction import PRIVATE_KEY_BYTES, AnchorKey
from appliance.ledger.trust import encode_evidence, load_trust
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning import cli
from provisioning.box import ShopFacts, make_box, make_owner
from provisioning.kept_trust import keep_trust
from provisioning.local_door import LocalDoor
from provisioning.sandbox.bitcoin_node import BitcoinNode, bitcoin_node
from provisioning.sandbox.children import ChildFailed, end_child, start_child, wait_ready
from provisioning.sandbox.ipfs_node import ipfs_node
from provisioning.sandbox.layout import FOLDER_DEFAULT, TILLS, SandboxFolder
from provisioning.sandbox.postgres_server import postgres_server
from provisioning.sandbox.shop import RunningShop, Wishes
from provisioning.sandbox.tills import open_till
from provisioning.settings_file import Sections
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome

BUILD: Final = Path("build")
SERIAL: Final = "EVIDENCE-"
WITNESS: Final = "witness.example/w1"
START_S_MAX: Final = 30.0
SALE_MS_MAX: Final = 45_000
EVIDENCE_S_MAX: Final = 180.0
CONFIRMATIONS: Final = 6
# bcoin's regtest looks at witnesses of transactions from this block on, and has an address prefix of its own.
_SEGWIT_HEIGHT: Final = 432
_PREFIX: Final = "rb"
_LOOK_S: Final = 0.5


def main() -> int:
    """Run everything, leave `build/evidence.bundle`, `build/anchor.ots`, `build/trust.json`, and check them."""
    BUILD.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="evidence-", dir=BUILD) as folder, ExitStack() as stack:
            _gather(Path(folder).resolve(), stack)
    except ChildFailed as failure:
        print(f"evidence cannot be gathered here: {failure}", file=sys.stderr)
        return 2
    print(f"\nkept: {BUILD}/evidence.bundle, {BUILD}/trust.json, {BUILD}/anchor.ots with its note {BUILD}/anchor")
    print("The shop and its nodes are gone again: the addresses in the bundle answer no more, its proofs stay right.")
    print("`make evidence` makes all of it anew; nodes that stay are named in a box's settings: docs/operating.md.\n")
    files = [str(BUILD / "evidence.bundle"), "--trust", str(BUILD / "trust.json")]
    demands = [word for part in ("witnesses", "block", "publication") for word in ("--require", part)]
    return cli.main(["verify", "bundle", *files, *demands])


def _gather(folder: Path, stack: ExitStack) -> None:
    say = _Progress()
    say("a Bitcoin node (regtest), an IPFS node and PostgreSQL; installed once, which takes minutes")
    bitcoin = stack.enter_context(bitcoin_node(folder))
    ipfs = stack.enter_context(ipfs_node(folder / "ipfs"))
    postgres = stack.enter_context(postgres_server())
    say("a shop: token, TPM, owner, log")
    sandbox = SandboxFolder.at(folder / "shop")
    sandbox.path.mkdir(mode=0o700)
    shop_facts = ShopFacts(serial=f"{SERIAL}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    box = make_box(sandbox.box, shop=shop_facts, owner_key=_owner_key(), on_step=lambda _step: None)
    say("the head office: a witness and a calendar")
    witness = stack.enter_context(_witness(folder, box.trust, postgres.new_database()))
    calendar_url = stack.enter_context(_calendar(folder, bitcoin))
    say("the shop opens and sells once")
    shop = RunningShop(folder=sandbox, box=box)
    stack.callback(shop.close)
    sections = _sections(folder, witness=witness, node=bitcoin, calendar_url=calendar_url, ipfs_api=ipfs.api_base)
    shop.open(Wishes(shop=box.shop, ports_from=0, sections=sections), lambda _step: None)
    key = asyncio.run(_sell(sandbox.till(TILLS[0])))
    say("waiting for the witness, a block with six on top, and the publication")
    bundle = _wait(LocalDoor(sandbox.data), key, bitcoin)
    _keep(bundle, box.trust, witness)
    say.end()


def _owner_key() -> Path:
    """The owner's key of the ordinary sandbox, which need not be there yet."""
    folder = SandboxFolder.at(FOLDER_DEFAULT)
    held = folder.lock()  # None: it runs, so it has its owner
    try:
        return make_owner(folder.box)
    finally:
        if held is not None:
            os.close(held)


async def _sell(home: TerminalHome) -> str:
    """One sale for cash; its key."""
    currency = home.profile().currency
    body = PaymentBody(currency=currency, tenders=(TenderBody(kind="cash", amount_minor=1250),), amount_minor=1250)
    async with open_till(home) as till:
        answer = await till.payment(body, key=till.new_key(), deadline=till.deadline(SALE_MS_MAX))
    return answer.key


class _Progress:
    """One line per step, with the seconds of the step before."""

    def __init__(self) -> None:
        self._began: float | None = None

    def __call__(self, step: str) -> None:
        self.end()
        self._began = time.monotonic()
        print(f"{step} ... ", end="", flush=True)

    def end(self) -> None:
        if self._began is not None:
            print(f"{time.monotonic() - self._began:.1f} s", flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Witness:
    url: str
    vkeys: tuple[str, ...]

    @property
    def policy(self) -> WitnessPolicy:
        return WitnessPolicy(keys=tuple([WitnessKey.from_vkey(vkey) for vkey in self.vkeys]), needed=1)


@contextmanager
def _witness(folder: Path, trust: Path, dsn: str) -> Iterator[_Witness]:
    options = ["--name", WITNESS, "--keys", str(folder / "witness-keys"), "--trust", str(trust), "--port", "0"]
    with _upstream(folder, "witness", [*options, "--postgres", dsn]) as said:
        yield _Witness(url=said["url"], vkeys=tuple(said["vkeys"]))


@contextmanager
def _calendar(folder: Path, node: BitcoinNode) -> Iterator[str]:
    """The calendar, with a coin of its own key to pay for anchors."""
    home = folder / "calendar"
    home.mkdir(mode=0o700)
    key = secrets.token_hex(PRIVATE_KEY_BYTES)
    write_durably(home / "anchor.key", key.encode())
    write_durably(home / "credential", node.credential.encode())
    coin = _mine_a_coin(node, AnchorKey.read(key))
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--network", "regtest", "--folder", str(home), "--node", node.url, "--every", "0"]
    options += ["--credential", str(home / "credential"), "--look-every", "0.2", "--url", url, "--port", str(port)]
    with _upstream(folder, "calendar", [*options, "--coin", coin]):
        yield url


@contextmanager
def _upstream(folder: Path, service: str, options: list[str]) -> Iterator[dict[str, Any]]:
    log = folder / f"{service}.log"
    command = [sys.executable, "-m", "provisioning.cli", "upstream", service, *options]
    process = start_child(command, environment=dict(os.environ), log=log)
    try:
        wait_ready(process, lambda: b"\n" in log.read_bytes(), name=f"the {service}", log=log, seconds_max=START_S_MAX)
        yield json.loads(next(line for line in log.read_text().splitlines() if line.startswith("{")))
    finally:
        end_child(process)


def _mine_a_coin(node: BitcoinNode, key: AnchorKey) -> str:
    """Blocks that pay to `key`, enough for the first of them to be spent; its coin as TXID:INDEX."""
    address = key.address(replace(REGTEST, address_prefix=_PREFIX))
    _rpc(node, "generatetoaddress", _SEGWIT_HEIGHT + 8, address)
    block = _rpc(node, "getblock", _rpc(node, "getblockhash", 1))
    return f"{block['tx'][0]}:0"


def _wait(door: LocalDoor, key: str, node: BitcoinNode) -> EvidenceBundle:
    """Mine and look until nothing is missing."""
    nobody = AnchorKey(bytes(31) + b"\x01").address(replace(REGTEST, address_prefix=_PREFIX))
    ends_at = time.monotonic() + EVIDENCE_S_MAX
    while True:
        bundle = read_bundle(door.evidence(key=key))
        is_witnessed = any(head.cosignatures for head in bundle.heads)
        is_anchored = any(head.timestamp and len(head.headers) >= CONFIRMATIONS for head in bundle.heads)
        is_published = any(head.publication for head in bundle.heads)
        if is_witnessed and is_anchored and is_published:
            return bundle
        if time.monotonic() > ends_at:
            have = f"witnessed {is_witnessed}, anchored {is_anchored}, published {is_published}"
            raise ChildFailed(f"after {EVIDENCE_S_MAX:.0f} s the evidence is not complete: {have}")
        if not is_anchored:
            _rpc(node, "generatetoaddress", 1, nobody)
        time.sleep(_LOOK_S)


def _keep(bundle: EvidenceBundle, trust_file: Path, witness: _Witness) -> None:
    trust = load_trust(trust_file.read_bytes())
    evidence = encode_evidence(trust.owner, trust.evidence, witness.policy, REGTEST)
    # The bundle of an earlier run is written over, and its log is gone: nothing is left for its entry to vouch for.
    keep_trust(BUILD / "trust.json", evidence, without=f"{ShopFacts().owner}/{SERIAL}")
    write_durably(BUILD / "evidence.bundle", bundle.encode())
    stamped = next(head for head in bundle.heads if head.timestamp is not None)
    write_durably(BUILD / "anchor.ots", stamped.timestamp or b"")
    write_durably(BUILD / "anchor", stamped.note)


def _sections(folder: Path, *, witness: _Witness, node: BitcoinNode, calendar_url: str, ipfs_api: str) -> Sections:
    credential = folder / "bitcoin-credential"
    write_durably(credential, node.credential.encode())
    recipient = folder / "auditor.pub"
    public_key = hpke.public_key_of(secrets.token_bytes(hpke.SEED_BYTES))
    write_durably(recipient, base64.b64encode(public_key) + b"\n")
    return {
        "witnesses": {"named": [" ".join((witness.url, *witness.vkeys))], "needed": 1, "every_ms": 1_000},
        "publication": {"api_base": ipfs_api, "recipient_path": recipient, "every_ms": 1_000},
        "timestamps": {"calendars": [calendar_url], "every_ms": 1_000, "look_every_ms": 500},
        "timestamps.node": {"url": node.url, "credential_path": credential, "network": "regtest"},
    }


def _rpc(node: BitcoinNode, method: str, *parameters: Any) -> Any:
    body = json.dumps({"method": method, "params": parameters, "id": 1}).encode()
    token = base64.b64encode(node.credential.encode()).decode()
    request = urllib.request.Request(node.url, data=body, headers={"Authorization": f"Basic {token}"})  # noqa: S310 - the address is our own, on loopback
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own address again
        found = json.load(answer)
    if found["error"] is not None:
        raise ChildFailed(f"the Bitcoin node refused {method}: {found['error']}")
    return found["result"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


if __name__ == "__main__":
    sys.exit(main())
