"""`tillstone ledger`: what a ledger database would give, from a log that nobody can rewrite.

Owns the words on the screen. The answers are the box's; a proof file proves itself to whoever has the trust file.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final

from appliance.ledger.checkpoint import read_checkpoint
from appliance.ledger.entry import decode
from appliance.ledger.merkle import leaf_hash, root_from_inclusion
from appliance.ledger.tlog import read_proof
from appliance.model.errors import Corrupt
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, counted, entries, print_json
from provisioning.commands.status import box_of
from provisioning.local_door import LocalDoor
from provisioning.verify.bodies import read_body
from provisioning.verify.sentences import sentence

_POLL_S: Final = 0.2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Six questions, each with `--json`."""
    parser = subparsers.add_parser("ledger", description="Ask the box about its log.")
    actions = parser.add_subparsers(metavar="QUESTION", required=True)
    asking = actions.add_parser("history", help="every entry that concerns a payment, in order")
    asking.add_argument("key", metavar="KEY", help="the payment's key, or that of its refund (a UUID)")
    asking.set_defaults(run=history)
    digesting = actions.add_parser("digest", help="size and root of the log, now or as of a time")
    digesting.add_argument("--at", metavar="TIME", help="2026-11-24T15:00:00Z, or Unix milliseconds")
    digesting.set_defaults(run=digest)
    proving = actions.add_parser("proof", help="a file that proves one entry to anybody (C2SP tlog-proof)")
    proving.add_argument("seq", metavar="SEQ", type=int, help="the entry's number")
    proving.add_argument("--size", type=int, metavar="N", help="under the log's first N entries (default: all)")
    proving.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (default: the screen)")
    proving.set_defaults(run=proof)
    extending = actions.add_parser("consistency", help="proof that the log of one size extends the log of another")
    extending.add_argument("first", metavar="FROM", type=int)
    extending.add_argument("second", metavar="TO", type=int)
    extending.set_defaults(run=consistency)
    verifying = actions.add_parser("verify", help="let the box read its whole log again, now; exit code 1 if damaged")
    verifying.set_defaults(run=verify)
    trusting = actions.add_parser("integrity", help="last verification, followers, and where each key lives")
    trusting.set_defaults(run=integrity)
    for action in (asking, digesting, proving, extending, verifying, trusting):
        add_box(action)
        add_json(action)


def history(arguments: argparse.Namespace) -> int:
    """One line per entry, in words."""
    answer = box_of(arguments).history(arguments.key)
    if arguments.json:
        print_json(answer)
        return DONE
    found = answer["entries"]
    print(f"payment {answer['payment']}: {entries(len(found))}")
    for fields in found:
        entry = decode(bytes.fromhex(fields["entry"]))
        print(f"  {entry.seq:>9}  {fields['time']}  {entry.kind:<15}  {sentence(entry, read_body(entry)[0])}")
    return DONE


def digest(arguments: argparse.Namespace) -> int:
    """Size and root, and between which entries the time lies."""
    answer = box_of(arguments).digest(arguments.at)
    if arguments.json:
        print_json(answer)
        return DONE
    print(f"digest {'now' if answer['at'] is None else 'as of ' + answer['at']}")
    print(f"  size  {entries(answer['size'])}")
    print(f"  root  {answer['root']}")
    for name, fields in (("last inside", answer["last"]), ("first outside", answer["following"])):
        if fields is not None:
            print(f"  {name}: entry {fields['seq']} of {fields['time']}")
    return DONE


def proof(arguments: argparse.Namespace) -> int:
    """Write the file, once it was found to prove what was asked."""
    encoded = box_of(arguments).proof(arguments.seq, arguments.size)
    found = read_proof(encoded)
    checkpoint = read_checkpoint(found.checkpoint)
    leaf = leaf_hash(found.extra)
    if root_from_inclusion(leaf, found.index, checkpoint.size, found.path) != checkpoint.root:
        raise Corrupt("tlog_proof_wrong", "the box's proof does not lead to its own checkpoint")
    if arguments.output is None and not arguments.json:
        sys.stdout.write(encoded.decode())
        return DONE
    if arguments.output is not None:
        _write(arguments.output, encoded)
    if arguments.json:
        print_json(
            {
                "seq": found.index,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "leaf": leaf.hex(),
                "path": [node.hex() for node in found.path],
                "proof": encoded.decode(),
            }
        )
    else:
        print(f"{arguments.output}: entry {found.index} is in {checkpoint.origin} of {entries(checkpoint.size)}")
        print("  the file holds the entry, the path and the signed checkpoint; trust.json is all that a reader needs")
    return DONE


def consistency(arguments: argparse.Namespace) -> int:
    """The hashes, one per line."""
    if arguments.first > arguments.second:
        swapped = f"tillstone ledger consistency {arguments.second} {arguments.first}"
        raise CannotDo("FROM must not exceed TO: a log only grows", swapped)
    answer = box_of(arguments).consistency(arguments.first, arguments.second)
    if arguments.json:
        print_json(answer)
        return DONE
    hashes = counted(len(answer["path"]), "hash", "hashes")
    print(f"the log of {entries(answer['to'])} extends the one of {answer['from']:,}: {hashes}")
    for node in answer["path"]:
        print(f"  {node}")
    return DONE


def verify(arguments: argparse.Namespace) -> int:
    """Start, wait, tell."""
    box = box_of(arguments)
    answer = _wait(box, box.verify_now(), is_quiet=arguments.json)
    last = answer["last"]
    if last is None:
        raise CannotDo("the box ended before the verification did", "start it and ask again")
    if arguments.json:
        print_json(last)
    else:
        print(_verification(last))
    return DONE if last["is_right"] else NO


def integrity(arguments: argparse.Namespace) -> int:
    """Everything, in lines."""
    answer = box_of(arguments).integrity()
    if arguments.json:
        print_json(answer)
        return DONE
    last, running = answer["last"], answer["running"]
    print(
        "verification  "
        + ("none ended yet; tillstone ledger verify starts one" if last is None else _verification(last))
    )
    if running is not None:
        print(f"              one is running: {running['checked']:,} of {running['size']:,} entries")
    for follower in answer["followers"]:
        state = f"failing: {follower['reason']}" if follower["reason"] else "working"
        print(f"follower      {follower['name']:<10} {entries(follower['lag_entries'])} behind, {state}")
    if not answer["followers"]:
        print("follower      none is set up")
    print(f"token         {answer['token']['module']}, {answer['token']['label']}. {answer['token']['sentence']}")
    for key in answer["keys"]:
        print(f"key           {key['purpose']:<16} {key['algorithm']:<11} {key['key_id'][:16]}  in the {key['home']}")
        if key["asserted"]:
            print(f"              {'':<16} asserted: {', '.join(key['asserted'])}")
    return DONE


def _wait(box: LocalDoor, answer: dict[str, Any], *, is_quiet: bool) -> dict[str, Any]:
    is_screen = sys.stderr.isatty() and not is_quiet
    while (running := answer["running"]) is not None:
        if is_screen:
            print(f"\r{running['checked']:,} of {running['size']:,} entries", end="", file=sys.stderr, flush=True)
        time.sleep(_POLL_S)
        answer = box.integrity()
    if is_screen:
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return answer


def _verification(last: dict[str, Any]) -> str:
    if last["is_right"]:
        took_s = last["took_ms"] / 1_000
        return f"{last['size']:,} entries and their tiles are right (took {took_s:.1f} s); root {last['root']}"
    return f"DAMAGED ({last['code']}): {last['detail']}. The box sells nothing: call whoever looks after it"


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as cause:
        raise CannotDo(f"{file} cannot be written: {cause.strerror}", "name another file with -o") from cause
