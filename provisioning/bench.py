"""`python -m provisioning.bench FOLDER`: a box in a developer's machine, with its own TPM and a test token.

Owns what makes it a bench: the owner's key lies beside the box and is used without a person. Must never be in a release
image: a shop's box is provisioned by its installer.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from typing import Final

from provisioning.box import ShopFacts, make_box
from provisioning.certificate import issue
from provisioning.local_door import LocalDoor
from provisioning.settings_file import Ports, Value, write_settings

SHOP: Final = ShopFacts(name="Bench", serial="BENCH-1")
PORTS: Final = Ports(pos=8443, public=9080)
_ROOM_BYTES_MIN: Final = 64 * 2**20


def make_bench(folder: Path, tcti: str, host: str | None = None) -> None:
    """Make the box in `folder`, as far as it is not there yet; its settings and the door's certificate anew.

    Args:
        host: where tills on a network find the door, beside this machine's own names.
    """
    box = make_box(folder, shop=SHOP, tcti=tcti, on_step=lambda step: print(f"bench: {step}", flush=True))
    door = issue(folder / "tls", now=datetime.datetime.now(datetime.UTC), shop=SHOP.name, host=host)
    # Without `host`, so unlike the sandbox's this door is for other machines: the firewall says which.
    pos: dict[str, Value] = {
        "port": PORTS.pos,
        "tls_certificate_path": door.certificate,
        "tls_key_path": door.key,
        "is_announced": True,
    }
    write_settings(
        box, tcti=tcti, ports=PORTS, door=door, cards=None, room_bytes_min=_ROOM_BYTES_MIN, further={"pos": pos}
    )


def invite(folder: Path, terminal: str) -> str:
    """What a terminal pairs with; the box must run."""
    return LocalDoor(folder / "data").invite(terminal)["qr"]


def main() -> int:
    """Make the box, or invite a terminal of it and print the invitation."""
    parser = argparse.ArgumentParser(prog="python -m provisioning.bench")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tcti", default="device:/dev/tpmrm0")
    parser.add_argument("--host", help="name or address of the door for tills on a network")
    parser.add_argument("--invite", metavar="TERMINAL")
    arguments = parser.parse_args()
    if arguments.invite is None:
        make_bench(arguments.folder, arguments.tcti, arguments.host)
    else:
        print(f"bench: invitation {invite(arguments.folder, arguments.invite)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
