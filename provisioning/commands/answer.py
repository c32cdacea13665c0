"""One question of a till and its answer, as `pay` and its like share it: who asks, what is kept, what is told.

Owns the wording and `build/trust.json`. Must never say that something failed when it may have happened.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.model.money import Money
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from appliance.slip.paper_text import amount
from appliance.wire.answers import PaymentAnswer, SaleAnswer
from provisioning.commands.folder import add_sandbox
from provisioning.commands.outcome import CannotDo, add_json, counted, print_json
from provisioning.kept_trust import keep_trust
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import FOLDER_DEFAULT, TILLS, SandboxFolder
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient, open_terminal
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome
from provisioning.terminal.reasons import reason

BUILD: Final = Path("build")
ASK_MS_MAX: Final = 45_000
AnswerT = TypeVar("AnswerT")
Question: TypeAlias = Callable[[TerminalClient, RequestKey, Deadline], Awaitable[AnswerT]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the box said, how long it took, and where its receipt was kept; None while that is to come."""

    answer: PaymentAnswer
    home: TerminalHome
    took_ms: float
    receipt_file: Path | None


def add_till(parser: argparse.ArgumentParser) -> None:
    """`--home`, `--dir` and `--json`."""
    parser.add_argument(
        "--home", type=Path, metavar="FOLDER", help="folder of a paired terminal (default: till-1 of the sandbox)"
    )
    add_sandbox(parser)
    add_json(parser)


@contextmanager
def till_of(arguments: argparse.Namespace) -> Iterator[TerminalHome]:
    """The terminal in `--home`; else till-1, whose sandbox is opened for this alone when it does not run."""
    if arguments.home is not None:
        yield TerminalHome(folder=arguments.home)
        return
    folder = SandboxFolder.at(arguments.dir)
    began = time.monotonic()
    with sandbox_for_a_while(folder, "--ports-from", "0") as was_running:
        if not was_running and not arguments.json:
            print(f"No sandbox was running: one was opened for this alone ({time.monotonic() - began:.1f} s).")
        yield folder.till(TILLS[0])


def payment_key(text: str) -> RequestKey:
    """The key that a person typed. Raises CannotDo."""
    try:
        return request_key(text.strip().lower())
    except Rejected as refusal:
        raise CannotDo(
            f"{text!r} is no payment's key, such as 01a0c450-6c00-7000-8000-000000000001 ({refusal.code})",
            f"{PROGRAM} pay prints the key of a sale",
        ) from refusal


def ask(
    home: TerminalHome,
    question: Question[PaymentAnswer],
    *,
    receipt_file: Path,
    when_in_doubt: str,
    ask_ms_max: int = ASK_MS_MAX,
) -> Answered:
    """Ask until the answer is final and proven, or the time is up, and keep its receipt and the trust file.

    Args:
        when_in_doubt: the next step when it may have happened; `{key}` stands for the question's key.
    Raises:
        CannotDo: the box refused, could not be asked, or nobody knows.
    """
    began = time.monotonic()
    answer = ask_till(home, question, when_in_doubt=when_in_doubt, ask_ms_max=ask_ms_max)
    return keep(home, answer, receipt_file=receipt_file, took_ms=(time.monotonic() - began) * 1000)


def keep(home: TerminalHome, answer: PaymentAnswer, *, receipt_file: Path, took_ms: float) -> Answered:
    """Keep the receipt of `answer` and the trust file."""
    receipt_file.parent.mkdir(exist_ok=True)
    keep_trust(BUILD / "trust.json", home.trust())
    if answer.receipt is not None:
        write_durably(receipt_file, answer.receipt)
    return Answered(
        answer=answer, home=home, took_ms=took_ms, receipt_file=None if answer.receipt is None else receipt_file
    )


def ask_till(
    home: TerminalHome, question: Question[AnswerT], *, when_in_doubt: str, ask_ms_max: int = ASK_MS_MAX
) -> AnswerT:
    """The same for any answer, and nothing is kept. Raises CannotDo like `ask`."""
    asked: list[RequestKey] = []
    try:
        return asyncio.run(_ask(home, question, when_in_doubt, ask_ms_max, asked))
    except KeyboardInterrupt:
        if not asked:
            raise
        sentence = f"stopped by you; it may have happened, or may yet, under key {asked[0]}"
        raise CannotDo(sentence, when_in_doubt.replace("{key}", str(asked[0]))) from None


async def _ask(
    home: TerminalHome,
    question: Question[AnswerT],
    when_in_doubt: str,
    ask_ms_max: int,
    asked: list[RequestKey],
) -> AnswerT:
    """`asked` gets the key before the box may hear of it: whoever is stopped in between needs it."""
    currency = ""
    try:
        async with open_terminal(home, clock=SystemClock()) as client:
            currency = client.profile.currency
            key = client.new_key()
            asked.append(key)
            try:
                return await question(client, key, client.deadline(ask_ms_max))
            except OutcomeUnknown as doubt:
                sentence = f"it may have happened under key {key}: {doubt.detail} ({doubt.code})"
                raise CannotDo(
                    sentence, _after_doubt(doubt, key, home) or when_in_doubt.replace("{key}", str(key))
                ) from doubt
    except Rejected as refusal:
        next_step = _NEXT.get(refusal.code, f"{PROGRAM} status")
        if refusal.code == "wrong_audience":
            next_step = f"the box may have begun a new log: {_follow(home)}; then the same command again"
        detail = _with_amounts(refusal, currency) if currency and refusal.code in _IN_AMOUNTS else refusal.detail
        raise CannotDo(f"refused: {detail} ({refusal.code})", next_step) from refusal
    except Unavailable as trouble:
        raise CannotDo(f"no money moved: {trouble.detail} ({trouble.code})", f"{PROGRAM} status") from trouble


def _with_amounts(refusal: Rejected, currency: str) -> str:
    """`refusal` for people: every number in it is an amount, which the box says in minor units."""
    told = refusal.detail.replace(" minor units", "")
    return _NUMBER.sub(lambda found: f"{amount(int(found[0]), currency)} {currency}", told)


def _after_doubt(doubt: OutcomeUnknown, key: RequestKey, home: TerminalHome) -> str:
    """The next step when it is known better than from the command alone."""
    if doubt.code != "receipt_refused":
        return ""
    return f"do not do it again; the log may have new keys: {_follow(home)}; then {PROGRAM} ledger history {key}"


def _follow(home: TerminalHome) -> str:
    beside = home.folder.parent / "box" / "trust.json"
    return f"{PROGRAM} terminal follow {home.folder} --trust {beside if beside.is_file() else 'FILE'}"


_PAIR: Final = f"{PROGRAM} terminal pair --help"
_NUMBER: Final = re.compile(r"(?<![\w-])(?<!drawer )\d+(?![\w-])")  # no name, such as till-1
_IN_AMOUNTS: Final = frozenset(
    {
        "amount_too_large",
        "capture_above_authorisation",
        "capture_below_total",
        "drawer_short",
        "part_above_remaining",
        "refund_above_left",
        "refund_above_lines",
        "refund_too_small",
        "voucher_not_paid",
    }
)
_NEXT: Final = {
    "profile_missing": _PAIR,
    "trust_missing": _PAIR,
    "key_file_missing": _PAIR,
    "payment_unknown": f"look at the key: {PROGRAM} pay prints it, and an auditor's tables list it",
    "already_undone": "nothing to do: the money went back before",
    "payment_not_captured": f"{PROGRAM} reverse KEY gives up what is held",
    "capture_above_authorisation": "capture what is held, and sell the rest anew",
    "authorisation_expired": "sell anew",
    "refund_above_left": "give back what is left: the same command without --amount and --line",
    "line_already_refunded": "look at the receipt: so much of that line was not sold, or went back before",
    "payment_took_no_money": "nothing to do: no money was taken",
    "drawer_short": "count the drawer: a count sets right what the log believes",
    "period_empty": "nothing to do: it was closed before",
    "retry_not_needed": "nothing to do: the customer has paid",
    "part_above_remaining": f"look what is open: {PROGRAM} pay --part-of KEY without --amount takes all of it",
    "sale_closed": "begin the sale anew: nothing is added to one that was given up or refunded",
    "sale_not_complete": f"{PROGRAM} reverse KEY takes the part back, or the whole sale by its first key",
    "source_in_clear": f"{PROGRAM} vault keep --for sale keeps the token and says its name: --source NAME",
    "token_purpose_wrong": f"{PROGRAM} vault list says what it was kept for: one for hold needs --later, one for sale"
    " is sold without",
    "token_forgotten": f"{PROGRAM} vault list says what is kept; or take another tender",
    "token_erased": f"{PROGRAM} vault list says what is kept; or take another tender",
    "token_expired": f"{PROGRAM} vault list says what is kept; or take another tender",
    "token_unknown": f"{PROGRAM} vault list says what is kept",
    "card_number_refused": "the same command without the card's number: name a card by its token, or take it by"
    " --reader or --pin-pad",
    "partial_needs_one_card": "the same command with --card, and without --tip",
    "sale_not_in_parts": f"{PROGRAM} pay --of-total TOTAL begins a sale in parts; --part-of takes its first key",
    "payment_open": "wait until it is found out, then the same command again",
}


_LIMITS: Final = {"sale": "for one sale", "terminal": "for this till", "box": "for all tills"}
_NOTHING_TAKEN: Final = ("declined", "not_charged", "expired", "cancelled")


def show(answered: Answered, arguments: argparse.Namespace) -> None:
    """The answer for programs, or for eyes with what proves it."""
    if arguments.json:
        print_json(answered.answer)
        return
    answer = answered.answer
    because = f": {reason(answer.state, answer.code)}{_limit(answer)} ({answer.code})" if answer.code else ""
    sold = f"{Money(answer.total_minor, answer.currency)}" if answer.currency else "A payment that never came"
    if answer.sale is not None and answer.sale.total_minor != answer.total_minor:
        sold = f"{amount(answer.total_minor, answer.currency)} of {Money(answer.sale.total_minor, answer.currency)}"
    given = f"{Money(answer.given_minor, answer.currency)} given back of " if answer.given_minor else ""
    print(
        f"\n{given}{sold}: {answer.state.replace('_', ' ')}{because}."
        f" {answered.took_ms:.0f} ms from till to receipt and back.\n"
    )
    print(f"  key        {answer.key}")
    if answer.receipt is None or answered.receipt_file is None:
        print("The result is durable; its signature is still to come.\n")
    else:
        _show_proof(answer.receipt, answered.receipt_file, answered.home)
    if answer.sale is not None:
        _show_sale(answer.sale, answer.currency, _same_till(arguments))
    if answer.verb == "reversal" and answer.state in _NOTHING_TAKEN:
        print("No money was taken, and none will be: there was nothing to give back.\n")
    for sentence, commands in _what_next(answer, arguments):
        print(f"{sentence}:\n")
        for command in commands:
            print(f"    {PROGRAM} {command}")
        print()


def _limit(answer: PaymentAnswer) -> str:
    """Which limit kept a card from being accepted offline, and what it would have allowed."""
    if answer.offline is None or answer.offline.limit is None:
        return ""
    if answer.offline.limit == "age":
        return ": the oldest payment that its bank was not asked about waits too long already"
    left = Money(answer.offline.left_minor, answer.currency)
    return f": of the limit {_LIMITS[answer.offline.limit]} {left} was left"


def _what_next(answer: PaymentAnswer, arguments: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What can be done about a payment that stands like this, each with its commands."""
    key, same_till = answer.key, _same_till(arguments)
    look = f"receipt {key}{_same_box(arguments)}"
    again = f"pay --cash{_to_pay(answer)} --retry-of {key}{same_till}"
    reverse = f"reverse {key}{same_till}"
    if answer.verb != "payment":
        if answer.state == "being_checked":
            yield "What became of it", (look,)
        return
    match answer.state:
        case "authorised":
            yield "To take the money that is held, or to give it up", (f"capture {key}{same_till}", reverse)
        case "approved" if answer.sale is None or not _is_incomplete(answer.sale):
            yield "To give the money back", (f"refund {key}{same_till}",)
            if answer.sale is not None and answer.sale.key != key:
                yield "To give all of the sale back", (f"refund {answer.sale.key}{same_till}",)
        case "accepted_offline":
            yield "What the card's bank said since, or to give the sale up", (look, reverse)
        case "being_checked":
            yield "What became of it", (look,)
            yield "To take another tender meanwhile; one of the two keeps its money", (again,)
            yield "To give the sale up", (reverse,)
        case "declined" | "not_charged":
            yield "To take another tender", (again,)
        case _:
            return


def _to_pay(answer: PaymentAnswer) -> str:
    """What another try of the same sale has to name."""
    if not answer.currency:
        return ""
    sale, total = answer.sale, f" --amount {amount(answer.total_minor, answer.currency)}"
    if sale is None:
        return total
    if sale.key != answer.key:
        return f"{total} --part-of {sale.key}"
    return f"{total} --of-total {amount(sale.total_minor, answer.currency)}"


def _is_incomplete(sale: SaleAnswer) -> bool:
    return bool(sale.remaining_minor) and sale.closed == "no"


def _show_sale(sale: SaleAnswer, currency: str, same_till: str) -> None:
    paid, total = Money(sale.paid_minor, currency), Money(sale.total_minor, currency)
    by = counted(len(sale.parts), "part", "parts")
    if not _is_incomplete(sale):
        complete = "" if sale.remaining_minor or sale.closed == "yes" else "; the sale is complete"
        print(f"A sale in parts: {paid} of {total} paid by {by}{complete}.\n")
        return
    print(f"A sale in parts: {paid} of {total} paid by {by}.")
    print(
        f"{Money(sale.remaining_minor, currency)} is open. To take it, by any tender, or to give all of the sale up:\n"
    )
    print(f"    {PROGRAM} pay --part-of {sale.key}{same_till}")
    print(f"    {PROGRAM} reverse {sale.key}{same_till}\n")


def _same_box(arguments: argparse.Namespace) -> str:
    return "" if arguments.dir == FOLDER_DEFAULT else f" --dir {arguments.dir}"


def _same_till(arguments: argparse.Namespace) -> str:
    if arguments.home is not None:
        return f" --home {arguments.home}"
    return _same_box(arguments)


def _show_proof(receipt: bytes, receipt_file: Path, home: TerminalHome) -> None:
    from appliance.ledger.receipt import verify_receipt
    from appliance.ledger.trust import load_trust

    trust = load_trust(home.trust())
    verified = verify_receipt(receipt, trust.keys)
    print(f"  recorded   as entry {max(entry.seq for entry in verified.entries)} of log {verified.log_id.hex()[:16]}")
    print(f"  proven     by a path of hashes to the root over all {verified.size} entries: {verified.root.hex()[:16]}")
    print("  signed     that root twice: by a key inside the HSM, and by ML-DSA-87 against quantum computers")
    print(f"  pinned     to the owner's key {trust.owner.fingerprint[:16]}, which signed the log's first entry")
    print(f"\nKept: {receipt_file} ({len(receipt)} bytes) and {BUILD / 'trust.json'}.")
    print("Whoever has these two files can check it, without this machine or a network:\n")
    print(f"    {PROGRAM} verify receipt {receipt_file} --trust {BUILD / 'trust.json'}\n")
