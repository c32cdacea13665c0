"""`tillstone sandbox`: make or resume the simulated shop, keep it open, stop it whole.

Owns signals and the lock of one run; the work is done in `provisioning/sandbox/`.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from provisioning.commands.folder import add_sandbox
from provisioning.commands.outcome import DONE, CannotDo
from provisioning.sandbox.customers import CUSTOMERS_AT_PAD
from provisioning.sandbox.layout import FOLDER_DEFAULT, SandboxFolder

if TYPE_CHECKING:
    from provisioning.box import ShopFacts
    from provisioning.sandbox.screen import Screen
    from provisioning.sandbox.shop import RunningShop

BREAKS: Final = ("hsm", "tpm", "network", "power", "disk", "byte")
PAYERS: Final = ("agree", "decline", "wait")
CUSTOMERS: Final = ("approve", "decline", "timeout", "cancel", "offline", "silent")
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`sandbox [--quiet] [--ports-from]`, `sandbox break|reader|payer|pad WHAT`, `sandbox tamper|printer`."""
    parser = subparsers.add_parser(
        "sandbox",
        help="run a whole simulated shop, or break one thing in it",
        description="Make or resume a whole shop in a folder: token, TPM, Stripe twin, two tills and the appliance.",
    )
    add_sandbox(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but trouble")
    parser.add_argument(
        "--ports-from",
        type=_port,
        metavar="N",
        help="terminals at N, public door at N+1; 0 takes free ones (default: 8443 and 9080)",
    )
    parser.add_argument("--currency", default="EUR", help="of a new shop (default: %(default)s)")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(metavar="break|reader|payer|pad|tamper|printer", title="beside a running sandbox")
    breaking = actions.add_parser(
        "break",
        help="break one thing, show what the shop says, and heal it",
        description="Break one thing and heal it.",
    )
    _add_what(breaking, BREAKS, run_break)
    reader = actions.add_parser(
        "reader",
        help="who stands at the card readers from now on",
        description="Put a customer at the card readers: one who taps a good card or one without money, walks away, or "
        "presses cancel; or a reader that is offline, or that charges and then says nothing.",
    )
    _add_what(reader, CUSTOMERS, run_reader)
    payer = actions.add_parser(
        "payer",
        help="what customers of PayPal and Coinbase do from now on",
        description="Let customers of PayPal and Coinbase pay by themselves, have no money, or wait for whoever opens"
        " their page.",
    )
    _add_what(payer, PAYERS, run_payer)
    pad = actions.add_parser(
        "pad",
        help="who stands at the PIN pad from now on",
        description="Put a customer at the PIN pad, or break it: "
        + "; ".join(f"{word}: {what}" for word, what in CUSTOMERS_AT_PAD.items())
        + ".",
    )
    _add_what(pad, tuple(CUSTOMERS_AT_PAD), run_pad)
    tamper = actions.add_parser(
        "tamper",
        help="open the box's case: it locks",
        description="Open the box's case: it locks until `tillstone device unlock`; with zeroise = true under [tamper]"
        " in the box's extra.toml its keys are destroyed.",
    )
    tamper.add_argument("--dir", type=Path, metavar="DIR", default=argparse.SUPPRESS, help="the sandbox's folder")
    tamper.set_defaults(run=run_tamper)
    printer = actions.add_parser(
        "printer",
        help="a receipt printer that is not there",
        description="A receipt printer that is not there: shows what comes to paper, until Ctrl-C.",
    )
    printer.add_argument("--port", type=_port, default=9100, metavar="N", help="TCP port (default: %(default)s)")
    printer.set_defaults(run=run_printer)


def _add_what(
    parser: argparse.ArgumentParser, choices: Sequence[str], act: Callable[[argparse.Namespace], int]
) -> None:
    """One word of `choices`, and the sandbox to which it is done."""
    parser.add_argument("what", choices=choices, metavar="|".join(choices))
    # Also behind the word; without a default, which would hide the one given before it.
    parser.add_argument("--dir", type=Path, metavar="DIR", default=argparse.SUPPRESS, help="the sandbox's folder")
    parser.set_defaults(run=act)


def run(arguments: argparse.Namespace) -> int:
    """Open the shop and stay until Ctrl-C or SIGTERM."""
    from provisioning.box import ShopFacts
    from provisioning.sandbox.screen import Screen

    screen = Screen(is_quiet=arguments.quiet)
    folder = SandboxFolder.at(arguments.dir)
    lock = folder.lock()
    if lock is None:
        return _tell_running(folder)
    folder.forget_run()  # what a killed sandbox left
    before = {number: signal.signal(number, _interrupt) for number in _STOP_SIGNALS}
    try:
        facts = ShopFacts(currency=arguments.currency, serial=_serial(folder))
        keep_open(folder, screen, facts, arguments.ports_from)
    except KeyboardInterrupt:
        screen.steps_left()
        screen.note("stopped; everything is kept, the same command opens the shop again")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(lock)
    return DONE


def _serial(folder: SandboxFolder) -> str:
    """Of a new box: witnesses keep one head for each name, so only the usual folder gets the name of the documents."""
    return "SANDBOX-1" if folder.path.name == FOLDER_DEFAULT.name else f"SANDBOX-{secrets.token_hex(4)}"


def keep_open(folder: SandboxFolder, screen: Screen, shop: ShopFacts, ports_from: int | None) -> None:
    """Open, show, watch, and end every child however this ends."""
    from appliance.config.load import SettingsInvalid
    from provisioning.box import BoxFailed
    from provisioning.sandbox.children import ChildFailed
    from provisioning.sandbox.shop import Wishes, open_shop
    from provisioning.sandbox.supervisor import Supervisor
    from provisioning.swtpm import SwtpmError
    from provisioning.token import TokenFailed

    running: RunningShop | None = None
    try:
        running = open_shop(folder, Wishes(shop=shop, ports_from=ports_from), screen.step)
        screen.steps_done()
        for note in running.notes:
            screen.note(note)
        screen.opened(
            folder,
            shop=running.box.shop.name,
            pos_url=running.pos_url,
            public_url=running.public_url,
            stripe_url=running.stripe_url,
            paypal_url=running.paypal_url,
            coinbase_url=running.coinbase_url,
        )
        Supervisor(shop=running, screen=screen).run()
    except SettingsInvalid as trouble:
        screen.steps_left()
        raise CannotDo(trouble.detail, f"put {trouble.path} right, then run the same command again") from trouble
    except (BoxFailed, ChildFailed, SwtpmError, TokenFailed) as trouble:
        screen.steps_left()
        raise CannotDo(str(trouble), f"read {folder.appliance_log}, then run the same command again") from trouble
    finally:
        if running is not None:
            for number in _STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them running
            running.close()


def run_printer(arguments: argparse.Namespace) -> int:
    """Show paper until Ctrl-C or SIGTERM."""
    from provisioning.sandbox.printer_twin import PrinterTwin, on_tcp

    twin = PrinterTwin(on_row=lambda row: print(row, flush=True))
    with on_tcp(twin.take, arguments.port) as address:
        print(f'A printer without paper. In the box\'s extra.toml: [printer], address = "{address}"', flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return DONE


def run_break(arguments: argparse.Namespace) -> int:
    """Break one thing in the running sandbox."""
    from provisioning.sandbox.breaks import break_one

    return break_one(arguments.what, running_sandbox(arguments.dir))


def run_reader(arguments: argparse.Namespace) -> int:
    """Change who stands at the readers of the running sandbox."""
    from provisioning.sandbox.card_side import set_customers
    from provisioning.sandbox.twin_door import TwinDoor

    folder = running_sandbox(arguments.dir)
    run = folder.read_run()
    if run is None:
        raise CannotDo("the sandbox has just ended", "tillstone sandbox")
    set_customers(TwinDoor(base=run.stripe_url, folder=folder.stripe), arguments.what)
    print(f"From now on: {arguments.what}. Sell with: tillstone pay --reader")
    return DONE


def run_tamper(arguments: argparse.Namespace) -> int:
    """Open the case of the box in the running sandbox."""
    running_sandbox(arguments.dir).case.write_text("1\n")
    print("The case is open. What the box makes of it: tillstone device state")
    return DONE


def run_payer(arguments: argparse.Namespace) -> int:
    """Change what customers do at the twins of PayPal and Coinbase in the running sandbox."""
    from provisioning.sandbox.payers import set_payers
    from provisioning.sandbox.twin_door import TwinDoor

    folder = running_sandbox(arguments.dir)
    run = folder.read_run()
    if run is None:
        raise CannotDo("the sandbox has just ended", "tillstone sandbox")
    for url, twin in ((run.paypal_url, folder.paypal), (run.coinbase_url, folder.coinbase)):
        set_payers(TwinDoor(base=url, folder=twin), twin, arguments.what)
    print(f"From now on: {arguments.what}. Sell with: tillstone pay --paypal, or --usdc")
    return DONE


def run_pad(arguments: argparse.Namespace) -> int:
    """Change who stands at the PIN pad of the running sandbox."""
    from provisioning.sandbox.pin_pad_side import set_customer

    set_customer(running_sandbox(arguments.dir).pad, arguments.what)
    print(f"From now on: {CUSTOMERS_AT_PAD[arguments.what]}. Sell with: tillstone pay --pin-pad")
    return DONE


def running_sandbox(path: Path) -> SandboxFolder:
    """The sandbox in `path`, which must be open. Raises CannotDo."""
    folder = SandboxFolder.at(path)
    found = folder.read_run() if path.exists() else None
    if found is None or not found.is_ready:
        raise CannotDo(f"no sandbox runs in {folder.path}", "in another window: tillstone sandbox")
    return folder


def _tell_running(folder: SandboxFolder) -> int:
    found = folder.read_run()
    if found is None:
        raise CannotDo(f"another sandbox is just starting in {folder.path}", "wait a moment, then tillstone status")
    print(
        f"A sandbox runs already in {folder.path} (process {found.pid}).\n"
        f"  terminals  {found.pos_url}\n  public     {found.public_url}\n"
        f"  stop it    kill {found.pid}    (or Ctrl-C in its window)"
    )
    return DONE


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65534, saw {port}")
    return port
