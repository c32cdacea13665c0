"""`tillstone anchor key|address`: the key that pays for the box's own anchors, and where coins for it go.

Owns the words on the screen and the key's file. Must never write over a key: coins may lie on it. Never shows one.
"""

from __future__ import annotations

import argparse
import json
import secrets
from pathlib import Path

from appliance.config.load import load, read_secret
from appliance.evidence.block import MAINNET, NETWORKS, Network
from appliance.evidence.transaction import PRIVATE_KEY_BYTES, AnchorKey
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.terminal.durable import create_durably


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Two actions, each with `--json`."""
    parser = subparsers.add_parser("anchor", description="Make the key of the box's own Bitcoin anchors.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    making = actions.add_parser("key", help="make the key's file, and say what the settings need")
    making.set_defaults(run=make_key)
    showing = actions.add_parser("address", help="where coins for a key that is there go")
    showing.set_defaults(run=show_address)
    making.add_argument("file", type=Path, metavar="FILE", help="the key; must not exist")
    showing.add_argument("file", type=Path, metavar="FILE", help="the key")
    for action in (making, showing):
        chain = action.add_mutually_exclusive_group()
        chain.add_argument("--network", choices=sorted(NETWORKS), default=MAINNET.name, help="default: %(default)s")
        chain.add_argument("--config", type=Path, metavar="FILE", help="settings that name the network")
        add_json(action)


def make_key(arguments: argparse.Namespace) -> int:
    """Make it, and say what is to be done with it."""
    network = _network(arguments)
    text = secrets.token_hex(PRIVATE_KEY_BYTES)
    key = AnchorKey.read(text)
    try:
        # On the disk before anybody pays to its address.
        create_durably(arguments.file, text.encode() + b"\n")
    except FileExistsError as cause:
        raise CannotDo(
            f"{arguments.file} is there already, and a key is never written over",
            f"name another file; tillstone anchor address {arguments.file} says where its coins go",
        ) from cause
    except OSError as cause:
        sentence = f"{arguments.file} cannot be made: {cause.strerror}"
        raise CannotDo(sentence, "name a file in a folder of yours") from cause
    return _tell(arguments, key, network)


def show_address(arguments: argparse.Namespace) -> int:
    """Say it again."""
    network = _network(arguments)
    return _tell(arguments, AnchorKey.read(read_secret(arguments.file).reveal_text()), network)


def _tell(arguments: argparse.Namespace, key: AnchorKey, network: Network) -> int:
    address, path = key.address(network), str(arguments.file.absolute())
    if arguments.json:
        own = {"key_path": path, "coins": []}
        print_json({"address": address, "network": network.name, "settings": {"timestamps.node.own": own}})
        return DONE
    print(f"{arguments.file}: the key of this box's anchors on {network.name}. No other box may have it.")
    print(f"  pay a small coin to {address}")
    print("  then put into tillstone.toml, with the payment's transaction and output:\n")
    # A TOML basic string escapes like JSON does.
    print(f"    [timestamps.node.own]\n    key_path = {json.dumps(path, ensure_ascii=False)}")
    print('    coins = ["TXID:INDEX"]')
    return DONE


def _network(arguments: argparse.Namespace) -> Network:
    if arguments.config is None:
        return NETWORKS[arguments.network]
    timestamps = load(arguments.config).timestamps
    if timestamps is None or timestamps.node is None:
        raise CannotDo(
            f"{arguments.config} names no [timestamps.node], so no network",
            "name the network with --network, or the node in the settings first",
        )
    return NETWORKS[timestamps.node.network]
