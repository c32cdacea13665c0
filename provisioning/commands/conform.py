"""`tillstone conform`: puts the conformance suite on the command line. Owns nothing else: that is `conform/`'s."""

from __future__ import annotations

import argparse

from provisioning.conform.command import add_arguments, run


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`conform` with the suite's own options."""
    parser = subparsers.add_parser("conform", description="Score a client of the terminal protocol.")
    add_arguments(parser)
    parser.set_defaults(run=run)
