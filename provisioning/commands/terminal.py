"""`tillstone terminal invite|pair|follow|attested|list|revoke`: who may sell at this box.

Owns the words and the QR code on the screen. Must never show a terminal's key.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import terminal_id
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from provisioning.commands.folder import add_box, add_sandbox
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.commands.status import box_of
from provisioning.sandbox.layout import SandboxFolder
from provisioning.sandbox.screen import PROGRAM
from provisioning.sandbox.tills import PAIR_MS_MAX
from provisioning.terminal import pairing as protocol
from provisioning.terminal.home import Profile, TerminalHome
from provisioning.terminal.pairing import Invitation, read_code, read_qr


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Six actions, each with `--json`."""
    parser = subparsers.add_parser("terminal", description="Invite, pair, list or revoke terminals.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    inviting = actions.add_parser("invite", help="a one-time code for a new terminal, valid for ten minutes")
    inviting.add_argument("name", help="1 to 32 of a-z, 0-9 and inner hyphens")
    inviting.set_defaults(run=invite)
    pairing = actions.add_parser("pair", help="make this machine the terminal that was invited")
    pairing.add_argument("name", help="as it was invited")
    pairing.add_argument("invitation", help="the code, or the text of the QR code (tillstone:pair?...)")
    pairing.add_argument("--url", help="the box's door for terminals, beside a code (default: the running sandbox's)")
    pairing.add_argument(
        "--home", type=Path, metavar="FOLDER", help="for its key, profile and trust (default: NAME in the sandbox)"
    )
    pairing.set_defaults(run=pair)
    listing = actions.add_parser("list", help="every terminal that was ever paired")
    listing.set_defaults(run=list_all)
    revoking = actions.add_parser(
        "revoke",
        help="from now on nothing it signs is accepted",
        description="Shut a terminal out, for ever: its name is paired anew only with a new key.",
    )
    revoking.add_argument("name", help="as `terminal list` shows it")
    revoking.add_argument("--reason", required=True, help="why, such as lost: goes into the log, for ever; no names")
    revoking.set_defaults(run=revoke)
    following = actions.add_parser("follow", help="take a newer trust file: the log's next keys, or the next log")
    following.add_argument("home", type=Path, metavar="FOLDER", help="the terminal's: its key, profile and trust")
    following.add_argument("--trust", type=Path, required=True, metavar="FILE", help="the box's /trust.json")
    following.add_argument(
        "--authority",
        type=Path,
        metavar="FILE",
        help="authority.pem of a box whose token is new, from a hand that you trust: no signature vouches for it",
    )
    following.set_defaults(run=follow)
    demanding = actions.add_parser(
        "attested",
        help="have the box prove what it runs before a payment is sent to it",
        description="From now on this terminal sends a payment only to a box that proved, lately enough, what it runs.",
    )
    demanding.add_argument("home", type=Path, metavar="FOLDER", help="the terminal's: its key, profile and trust")
    demanding.add_argument(
        "--release",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="what may run, as the owner signed it; without one only who speaks is proven",
    )
    demanding.add_argument("--max-age", type=int, default=3_600, metavar="SECONDS", help="(default: %(default)s)")
    demanding.add_argument("--off", action="store_true", help="demand nothing any more")
    demanding.set_defaults(run=demand)
    add_sandbox(pairing)
    for action in (inviting, listing, revoking):
        add_box(action)
    for action in (inviting, pairing, following, demanding, listing, revoking):
        add_json(action)


def invite(arguments: argparse.Namespace) -> int:
    """Show the code, and as a QR code where there is a screen."""
    invitation = box_of(arguments).invite(arguments.name)
    if arguments.json:
        print_json(invitation)
        return DONE
    code, qr = invitation["code"], invitation["qr"]
    print(f"Type this at {arguments.name} within ten minutes:\n")
    print(f"    {'-'.join(code[at : at + 4] for at in range(0, len(code), 4)) if '-' not in code else code}\n")
    if sys.stdout.isatty():
        import segno

        print("or let it read this QR code:\n")
        segno.make(qr, error="m").terminal(compact=True)
    print(f"or, with a shell as the terminal:\n\n    {PROGRAM} terminal pair {arguments.name} '{qr}'")
    return DONE


def pair(arguments: argparse.Namespace) -> int:
    """Pair and say where the terminal now lies."""
    home = TerminalHome(folder=arguments.home or SandboxFolder.at(arguments.dir).path / arguments.name)
    if (home.folder / "terminal.json").exists():
        raise CannotDo(f"{home.folder} is a paired terminal already", "name another folder: --home FOLDER")
    try:
        profile = _pair(home, arguments)
    except Rejected as refusal:
        next_step = f"ask for a new code: {PROGRAM} terminal invite {arguments.name}"
        raise CannotDo(f"not paired: {refusal.detail} ({refusal.code})", next_step) from refusal
    except (Unavailable, OutcomeUnknown) as trouble:
        next_step = f"is the box running, and is this its address? Then {PROGRAM} terminal invite {arguments.name}"
        raise CannotDo(f"not paired: {trouble.detail} ({trouble.code})", next_step) from trouble
    if arguments.json:
        print_json({**msgspec.to_builtins(profile), "home": str(home.folder)})
        return DONE
    print(f"{profile.terminal} is paired with {profile.audience}; its key never leaves {home.folder}.\n")
    print(f"    {PROGRAM} pay --home {home.folder}")
    return DONE


def _pair(home: TerminalHome, arguments: argparse.Namespace) -> Profile:
    text: str = arguments.invitation
    is_qr = text.startswith("tillstone:")
    invitation = read_qr(text) if is_qr else Invitation(url=_url_of(arguments), code=read_code(text))
    name, clock = terminal_id(arguments.name), SystemClock()
    home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = Deadline.after(clock, PAIR_MS_MAX)
    return asyncio.run(protocol.pair(home, invitation, terminal=name, clock=clock, deadline=deadline))


def _url_of(arguments: argparse.Namespace) -> str:
    if arguments.url is not None:
        return str(arguments.url)
    found = SandboxFolder.at(arguments.dir).read_run() if arguments.dir.exists() else None
    if found is None:
        raise CannotDo(
            "a code alone does not say where the box is", "add --url https://..., or give the QR code's text"
        )
    return found.pos_url


def follow(arguments: argparse.Namespace) -> int:
    """Go on with the same owner's next keys or log; nothing is paired anew."""
    from provisioning.terminal import succession
    from provisioning.terminal.link import read_authority
    from provisioning.terminal.queue import SaleQueue

    home = TerminalHome(folder=arguments.home)
    waiting = SaleQueue(path=home.queue_file).waiting_count() if home.queue_file.exists() else 0
    try:
        authority = None if arguments.authority is None else read_authority(arguments.authority.read_bytes())
        profile = succession.follow(home, arguments.trust.read_bytes(), waiting_count=waiting)
        if authority is not None:
            home.keep_authority(authority)
    except OSError as cause:
        raise CannotDo(f"{cause.filename} cannot be read: {cause.strerror}", "check the name of the file") from cause
    except Rejected as refusal:
        raise CannotDo(f"{refusal.detail} ({refusal.code})", "this terminal is as it was") from refusal
    if arguments.json:
        print_json({"terminal": profile.terminal, "audience": profile.audience})
    else:
        print(f"{profile.terminal} goes on with {profile.audience}.")
    return DONE


def demand(arguments: argparse.Namespace) -> int:
    """Write the demand into the terminal's home, with releases that its owner signed."""
    from appliance.evidence.release import RELEASE_BYTES_MAX
    from appliance.ledger.trust import load_trust
    from provisioning.attest.check import read_release
    from provisioning.commands.named_file import read_named
    from provisioning.terminal.home import Attesting

    home = TerminalHome(folder=arguments.home)
    trust, terminal = load_trust(home.trust()), home.profile().terminal
    if arguments.max_age < 0:
        raise CannotDo(f"a proof cannot be {arguments.max_age} s old", "--max-age 3600")
    files = tuple([read_named(path, RELEASE_BYTES_MAX) for path in arguments.release])
    images = [read_release(file, trust).image for file in files]
    if arguments.off:
        home.attesting_file.unlink(missing_ok=True)
    else:
        home.keep_attesting(Attesting(age_max_ms=arguments.max_age * 1_000, releases=files))
    if arguments.json:
        print_json({"terminal": terminal, "demands": not arguments.off, "releases": images})
    elif arguments.off:
        print(f"{terminal} demands nothing of its box any more.")
    else:
        print(f"{terminal} sends a payment only to a box that proved itself in the last {arguments.max_age} s.")
        print(f"  what may run: {', '.join(images) or 'anything; name --release to have that proven too'}")
    return DONE


def list_all(arguments: argparse.Namespace) -> int:
    """One line per terminal."""
    terminals = box_of(arguments).terminals()
    if arguments.json:
        print_json(terminals)
        return DONE
    for terminal in terminals:
        print(f"{terminal['terminal']:<32}  {terminal['state']:<8}  key {terminal['key_id'][:16]}")
    if not terminals:
        print("No terminal is paired yet.\n  next: tillstone terminal invite till-3")
    return DONE


def revoke(arguments: argparse.Namespace) -> int:
    """Revoke, and say in which entry that stands."""
    answer = box_of(arguments).revoke(arguments.name, arguments.reason)
    if arguments.json:
        print_json(answer)
    else:
        print(f"{arguments.name} is revoked by entry {answer['seq']}: nothing it signs is accepted from now on.")
    return DONE
