"""`tillstone`: what an operator types. Finds the command, runs it, turns its errors into a sentence and a code.

Owns the table of commands and the exit codes: 0 done or true, 1 the answer is no, 2 it could not be done. Imports a
command's module only when that command was asked for, so that `tillstone --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from appliance.model.errors import Rejected, TillstoneError
from provisioning.commands.outcome import CannotDo


@dataclass(frozen=True, slots=True)
class _Command:
    """`module` has `add_parser(subparsers)`, whose parser sets `run`, a function of the arguments, as a default."""

    name: str
    module: str
    meaning: str


_COMMANDS: Final = (
    _Command("sandbox", "provisioning.commands.sandbox", "run a whole simulated shop, or break one thing in it"),
    _Command("pay", "provisioning.commands.pay", "sell once and keep the receipt"),
    _Command("capture", "provisioning.commands.capture", "take money that a card's bank holds since a sale"),
    _Command("reverse", "provisioning.commands.reverse", "see to it that a payment does not stand"),
    _Command("refund", "provisioning.commands.refund", "give the money of a sale back"),
    _Command("receipt", "provisioning.commands.receipt", "print what the log says of a payment, for people"),
    _Command("drawer", "provisioning.commands.drawer", "float, paid in, paid out, no sale or count at a till"),
    _Command("voucher", "provisioning.commands.voucher", "issue a voucher at a till, see what is left, take it back"),
    _Command("vault", "provisioning.commands.vault", "keep providers' tokens by name, rotate their keys, forget them"),
    _Command("report", "provisioning.commands.report", "X or Z of a till's drawer, or of the till"),
    _Command("close-day", "provisioning.commands.close_day", "end the shop's day and show its report"),
    _Command("reconcile", "provisioning.commands.reconcile", "compare money with each provider's own list"),
    _Command("print", "provisioning.commands.print", "print a text on the box's printer, such as a report"),
    _Command("page", "provisioning.page", "write the page at which customers check their slips"),
    _Command("screen", "provisioning.commands.screen", "what is screened before money moves, and why it was said"),
    _Command("status", "provisioning.commands.status", "say how the box is, in plain words"),
    _Command("device", "provisioning.commands.device", "see the state of the box, lock it, unlock it"),
    _Command("update", "provisioning.commands.update", "have the box start another image, or see how that went"),
    _Command("terminal", "provisioning.commands.terminal", "invite, pair, list or revoke terminals"),
    _Command("ledger", "provisioning.commands.ledger", "history, digest, proof and verification of the log"),
    _Command(
        "evidence",
        "provisioning.commands.evidence",
        "one file that proves a payment to a stranger, with witnesses and blocks",
    ),
    _Command("auditor", "provisioning.commands.auditor", "let an auditor read entries for some days"),
    _Command("audit", "provisioning.audit.command", "check and open what was published, with an auditor's key"),
    _Command("anchor", "provisioning.commands.anchor", "make the key of the box's own Bitcoin anchors"),
    _Command("escrow", "provisioning.escrow.command", "what terminals keep, sealed, in case the box is lost"),
    _Command("backup", "provisioning.commands.backup", "seal the whole box into a file, to the recovery key"),
    _Command("restore", "provisioning.restore.command", "make a new box of a backup, or check one"),
    _Command("subject", "provisioning.subject.command", "hand out or erase what the box holds about a person"),
    _Command("prune", "provisioning.commands.prune", "remove the bodies of old entries; proofs stay"),
    _Command("replay", "provisioning.commands.replay", "send a file of real purchases and check every total"),
    _Command(
        "verify", "provisioning.verify.command", "check a receipt, an evidence bundle or a whole log, without the box"
    ),
    _Command("attest", "provisioning.attest.command", "ask what runs on a box, and judge what its TPM says"),
    _Command("upstream", "provisioning.upstream.command", "run a service of a head office: the witness of its boxes"),
    _Command("export", "provisioning.exports.command", "give an auditor the log as tables"),
    _Command("succession", "provisioning.commands.succession", "new keys, or a new log in place of a lost one"),
    _Command("owner", "provisioning.owner.command", "make the owner's offline key, and sign with it"),
    _Command("provision", "provisioning.commands.provision", "make this machine its owner's box, with a signed stick"),
    _Command("retire", "provisioning.commands.retire", "end a box for good: last words, then its keys are destroyed"),
    _Command("state-key", "provisioning.commands.state_key", "read the recovery key of a box's encrypted state"),
    _Command("conform", "provisioning.commands.conform", "score a terminal client on retry, clock and replay"),
)


_WITHOUT_A_BOX: Final = frozenset(
    {"anchor", "attest", "audit", "conform", "owner", "restore", "state-key", "upstream", "verify"}
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser(given).parse_args(given)
    try:
        code: int = parsed.run(parsed)
    except CannotDo as trouble:
        return _say(trouble.sentence, trouble.next_step)
    except TillstoneError as trouble:
        return _say(f"{trouble.detail} ({trouble.code})", _next_step(trouble, parsed))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; Python would complain once more while ending
        return 2
    except KeyboardInterrupt:
        return _say("stopped by you", "run the same command again")
    return code


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="tillstone", description="The command line of a Tillstone box and of its sandbox.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in given if not word.startswith("-")), "")
    for command in _COMMANDS:
        if command.name == asked:
            importlib.import_module(command.module).add_parser(subparsers)
        else:
            subparsers.add_parser(command.name, help=command.meaning)
    return parser


def _next_step(trouble: TillstoneError, parsed: argparse.Namespace) -> str:
    """The box's state explains what is away; a wrong argument is explained by the command itself."""
    if isinstance(trouble, Rejected) or parsed.prog.split()[1] in _WITHOUT_A_BOX:
        return f"{parsed.prog} --help says what fits"
    return "tillstone status says how the box is"


class _Parser(argparse.ArgumentParser):
    """argparse, whose refusals end with what to do next, at the command that was meant.

    `prog` of what was parsed is that command with its action.
    """

    # The base class's types are those of its stub: any namespace, in which the innermost parser writes first.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(args, namespace)
        parsed.prog = getattr(parsed, "prog", self.prog)
        return parsed, unknown

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.exit(_say(f"nobody knows {' '.join(unknown)}", f"{parsed.prog} --help lists what there is"))
        return parsed

    def error(self, message: str) -> NoReturn:
        self.exit(_say(message, f"{self.prog} --help lists what there is"))


def _say(sentence: str, next_step: str) -> int:
    print(f"tillstone: {sentence}\n  next: {next_step}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
