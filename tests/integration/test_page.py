"""The page at which customers check slips, in a real browser, phone-sized: green, and red for every change."""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from appliance.crypto import cbor, cose
from appliance.crypto.signature import key_id
from appliance.crypto.signing_key import SigningKey, generate
from appliance.ledger.receipt import HeadSignature, head_protected, head_to_be_signed
from appliance.ledger.trust import load_trust
from appliance.model.limits import HOUR_MS
from appliance.slip.link import fragment
from provisioning.page import make_page, shop_facts
from tests.chromium import Tab, find_chromium, phone
from tests.fakes.log import shop_log
from tests.fakes.read_first import FakeReadFirst
from tests.unit.payment.offline import open_till

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="optional: chromium is not installed")


ECDSA = (cose.ESP256, cose.ESP384)
FLIP_SEED = 20_261
FLIPS = 40
NASTY = "</script>{script}<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module", autouse=True)
def log() -> None:
    """Made here, where no event loop runs yet."""
    shop_log()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's page, one of a shop with a name like a program, and one that knows no shop."""
    folder = tmp_path_factory.mktemp("pages")
    trust = load_trust(shop_log().trust)
    for name, shop in (
        ("index", shop_facts(trust, "Corner Shop", "Europe/Berlin")),
        ("nasty", shop_facts(trust, NASTY, "Europe/Berlin")),
        ("nobody", None),
    ):
        (folder / f"{name}.html").write_text(make_page(shop))
    for algorithm in ECDSA:
        facts = shop_facts(trust, "Corner Shop", "Europe/Berlin")
        key = ecdsa_key(algorithm)
        spki = base64.b64encode(key.public_key).decode()
        facts["logs"][0]["keys"][0] |= {"algorithm": algorithm, "kid": key_id(key.public_key).hex(), "spki": spki}
        (folder / f"ecdsa{algorithm}.html").write_text(make_page(facts))
    return folder


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with phone(tmp_path / "browser") as opened:
        yield opened
        assert opened.complaints == []


async def verdict(tab: Tab, pages: Path, code: str, page: str = "index") -> str:
    await tab.open(f"file://{pages}/{page}.html#{code}")
    found = await tab.wait_for("document.documentElement.dataset.verdict")
    return str(found)


async def words(tab: Tab) -> str:
    return str(await tab.evaluate("document.body.innerText"))


@cache
def ecdsa_key(algorithm: int) -> SigningKey:
    return generate(algorithm)


def signed_by(key: SigningKey) -> bytes:
    """The cash sale's receipt, its classical half by `key`."""
    whole = shop_log().whole
    head = whole.head
    protected = head_protected(
        algorithm=key.algorithm, key_id=key_id(key.public_key), log_id=head.log_id, size=head.size
    )
    signed = HeadSignature(protected=protected, signature=key.sign(head_to_be_signed(protected, head.root)))
    return replace(whole, head=replace(head, classical=signed), entries=whole.entries[4:5]).encode()


def receipt_of(*seqs: int) -> bytes:
    """A receipt file with the entries `seqs` of the shop's log."""
    whole = shop_log().whole
    chosen = tuple(proven for proven in whole.entries if proven.seq in seqs)
    return type(whole)(head=whole.head, entries=chosen).encode()


def changed(code: str, change: Any) -> str:
    """The fragment whose receipt file went through `change`."""
    packed = code.removeprefix("1.")
    file = cbor.decode(zlib.decompress(base64.urlsafe_b64decode(packed + "=="), -15), size_max=1 << 20)
    deflate = zlib.compressobj(wbits=-15)
    again = deflate.compress(cbor.encode(change(file))) + deflate.flush()
    return "1." + base64.urlsafe_b64encode(again).rstrip(b"=").decode()


async def test_genuine_slip_is_green_in_plain_words_and_asks_nobody(tab: Tab, pages: Path) -> None:
    assert await verdict(tab, pages, fragment(shop_log().sale)) == "genuine"
    text = await words(tab)
    for said in ("This slip is genuine", "Paid", "12.50 EUR", "SKU-1", "till-1", "What this does not prove", "quantum"):
        assert said in text
    assert load_trust(shop_log().trust).owner.fingerprint in text.replace(" ", "").replace("\n", "")
    assert [url for url in tab.requests if not url.startswith(("file:", "about:", "data:"))] == []
    assert len([url for url in tab.requests if url.startswith("file:")]) == 1


@pytest.mark.parametrize(
    ("seqs", "standing"),
    [((6, 7), "Paid"), ((6,), "Being checked"), ((8, 9), "Declined"), ((5, 10), "Refunded"), ((11,), "Cancelled")],
)
async def test_standing_is_what_the_entries_prove(tab: Tab, pages: Path, seqs: tuple[int, ...], standing: str) -> None:
    assert await verdict(tab, pages, fragment(receipt_of(*seqs))) == "genuine"
    assert await tab.evaluate("document.querySelector('.standing').innerText") == standing
    assert f"It says: {standing.lower()}" in await words(tab)


async def test_a_changed_byte_of_an_entry_is_red_wherever_it_lies(tab: Tab, pages: Path) -> None:
    whole = fragment(shop_log().sale)
    (proven,) = [each for each in shop_log().whole.entries if each.seq == 4]
    places = random.Random(FLIP_SEED).sample(range(len(proven.entry)), FLIPS)
    for place in [0, len(proven.entry) - 1, *places]:

        def flip(file: Any, place: int = place) -> Any:
            entry = bytearray(file["entries"][0])
            entry[place] ^= 1 << place % 8
            return {**file, "entries": [bytes(entry)]}

        assert await verdict(tab, pages, changed(whole, flip)) == "false", f"byte {place}, seed {FLIP_SEED}"


async def test_other_signature_path_or_head_is_red(tab: Tab, pages: Path) -> None:
    def with_message(**changes: Any) -> Any:
        def change(file: Any) -> Any:
            message = cose.decode_sign1(file["receipts"][0], size_max=1 << 20)
            parts = {
                "protected": message.protected_bytes,
                "unprotected": cbor.encode(message.unprotected),
                "signature": message.signature,
            }
            for name, edit in changes.items():
                parts[name] = edit(parts[name])
            joined = cose.join_sign1(parts["protected"], parts["unprotected"], None, parts["signature"])
            return {**file, "receipts": [joined]}

        return change

    def flipped(at: int) -> Any:
        return lambda octets: octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]

    whole = fragment(shop_log().sale)
    assert await verdict(tab, pages, changed(whole, with_message(signature=flipped(20)))) == "false"
    assert "did not sign" in await words(tab)
    assert await verdict(tab, pages, changed(whole, with_message(unprotected=flipped(-20)))) == "false"
    assert await verdict(tab, pages, changed(whole, with_message(protected=flipped(-1)))) == "false"
    assert await verdict(tab, pages, changed(whole, with_message(protected=flipped(20)))) == "false"


@pytest.mark.parametrize("algorithm", ECDSA)
async def test_log_of_a_token_without_ed25519_is_checked_too(tab: Tab, pages: Path, algorithm: int) -> None:
    genuine = fragment(signed_by(ecdsa_key(algorithm)))
    assert await verdict(tab, pages, genuine, f"ecdsa{algorithm}") == "genuine"
    assert await verdict(tab, pages, fragment(signed_by(generate(algorithm))), f"ecdsa{algorithm}") == "false"
    assert await verdict(tab, pages, genuine) == "false"
    assert "not the shop's" in await words(tab)


async def test_entries_of_two_payments_are_no_slip(tab: Tab, pages: Path) -> None:
    assert await verdict(tab, pages, fragment(receipt_of(4, 7))) == "false"
    assert await verdict(tab, pages, fragment(receipt_of(6, 9))) == "false"
    assert "two different payments" in await words(tab)


async def test_card_at_a_pad_is_told_by_the_intent_that_took_the_money(tab: Tab, pages: Path, tmp_path: Path) -> None:
    async with open_till(tmp_path / "box", pads_are=FakeReadFirst) as till:

        async def told(key: str) -> str:
            answer = await till.status(key)
            assert answer.receipt is not None
            assert await verdict(tab, pages, fragment(answer.receipt)) == "genuine", await words(tab)
            return str(await tab.evaluate("document.querySelector('.standing').innerText"))

        accepted, lost = (await till.sell(1_000)).key, (await till.sell(1_100)).key
        assert await told(accepted) == "Accepted offline, not yet confirmed"
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        till.shop.clock.pass_time(HOUR_MS)
        await till.forward()
        assert await told(accepted) == "Paid"
        assert await told(lost) == "Declined by the bank after the goods were handed over"
        paid, other = await till.sell(1_200), await till.sell(1_300)
        assert await told(paid.key) == "Paid"
        firsts = dict(await till.shop.rows("SELECT last, first FROM payments"))
        crossed = await till.shop.ledger.receipts([firsts[paid.seq], other.seq - 1, other.seq], 10_000)
        assert crossed is not None
        assert await verdict(tab, pages, fragment(crossed.encode())) == "false"
        without = await till.shop.ledger.receipts([firsts[other.seq], other.seq], 10_000)
        assert without is not None
        assert await verdict(tab, pages, fragment(without.encode())) == "false"


@pytest.mark.parametrize("code", ["1.", "1.AAAA", "2.AAAA", "1.%41", "x", "1." + "A" * 3_000])
async def test_anything_else_is_red(tab: Tab, pages: Path, code: str) -> None:
    assert await verdict(tab, pages, code) == "false"


async def test_cut_code_is_red(tab: Tab, pages: Path) -> None:
    whole = fragment(shop_log().sale)
    assert await verdict(tab, pages, whole[:-40]) == "false"
    assert "This code cannot be read" in await words(tab)


async def test_code_that_unpacks_without_end_is_red(tab: Tab, pages: Path) -> None:
    assert await verdict(tab, pages, changed(fragment(shop_log().sale), lambda _: bytes(10_000_000))) == "false"


async def test_page_that_knows_no_shop_calls_nothing_genuine(tab: Tab, pages: Path) -> None:
    assert await verdict(tab, pages, fragment(shop_log().sale), "nobody") == "unknown"
    assert "knows no shop" in await words(tab)


async def test_browser_without_the_signature_says_so(tab: Tab, pages: Path) -> None:
    # The blank page before has no SubtleCrypto at all.
    old = (
        "if (globalThis.SubtleCrypto) SubtleCrypto.prototype.importKey ="
        " () => Promise.reject(new DOMException('no', 'NotSupportedError'))"
    )
    await tab.call("Page.addScriptToEvaluateOnNewDocument", source=old)
    assert await verdict(tab, pages, fragment(shop_log().sale)) == "unknown"
    assert "This browser cannot check signatures of the kind Ed25519" in await words(tab)


async def test_text_of_a_receipt_is_text(tab: Tab, pages: Path) -> None:
    assert await verdict(tab, pages, fragment(shop_log().sale), "nasty") == "genuine"
    assert NASTY in await words(tab)
    assert await tab.evaluate("document.images.length") == 0


async def test_page_without_a_code_says_how_to_get_one(tab: Tab, pages: Path) -> None:
    await tab.open(f"file://{pages}/index.html")
    assert "Scan the square code" in await words(tab)
