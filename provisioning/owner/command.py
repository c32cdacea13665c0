"""`tillstone owner`: makes the owner's offline key and uses it, on a computer without a network.

Owns arguments, the printed ceremony and the files that come out. Must never take a secret as an argument, print one, or
write over a file: shares and passphrases come from files of mode 0600 or the keyboard.

* Every action that signs shows in words what will be signed and goes on when a person says that he has compared it.
"""

from __future__ import annotations

import argparse
import datetime
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.crypto.owner import OwnerKey
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy
from appliance.ledger.genesis import GenesisStatement, LogId
from appliance.ledger.log_keys import Distrust
from appliance.ledger.trust import TRUST_BYTES_MAX, Evidence, Trust, encode_evidence, load_trust
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, CannotDo, add_json, print_json
from provisioning.owner import statements
from provisioning.owner.release import add_release, release_of
from provisioning.owner.shares import share_number, split
from provisioning.owner.signing import (
    add_passphrase_file,
    add_signing,
    confirm,
    in_words,
    joined_shares,
    make_ready,
    new_folder,
    owner_key,
    read_passphrase,
    write_new,
)
from provisioning.owner.update import add_update
from provisioning.recipient_key import make_recipient
from provisioning.verify.wording import printable

_REQUEST_BYTES_MAX: Final = 64 << 10
_CEREMONY: Final = """\
The owner's key is made. It is the one thing that everybody who checks a receipt believes in, for ever.

  fingerprint  {fingerprint}

 1. Print {first} and {second}, on a printer without a network and without a memory.
    Each alone is worthless; both together are the key{passphrase}.
 2. Prove that they can be read: tillstone owner show {first} {second}{option}
 3. Put the sheets into two envelopes, to two people, in two buildings. Write the fingerprint on both.
 4. Erase this folder's two share files for good (they are files of mode 0600; better, they never left a RAM disk).
 5. Take {trust} along: it holds no secret. Whoever pins it compares the fingerprint by another way
    (telephone, letter, the sign at the till).
 6. To use the key: both sheets, typed or scanned into two files of mode 0600 (chmod 0600), and one of:
    tillstone owner genesis, succeed, rotate, distrust. Each shows what it signs. Erase the two files afterwards.

A lost share is a lost key: logs go on, but no new log, rotation or distrust can be signed. Make a new owner key
then and have it pinned anew everywhere.
"""


_PASSPHRASE_BYTES_WARN: Final = 12
_TO_THE_BOX: Final = {
    "genesis.cbor": "Take {folder} with genesis.cbor and trust.json to the box: tillstone succession begin {folder}",
    "rotation.cbor": (
        "Take {folder}/rotation.cbor to the box: tillstone succession rotate {folder}/rotation.cbor\n"
        "It writes the box's new trust.json; there is none before the rotation stands in the log."
    ),
    "attestation.sealed": (
        "Take {folder}/attestation.sealed to the box: tillstone attest install {folder}/attestation.sealed\n"
        "Only the TPM that holds both keys opens it."
    ),
    "release.cbor": "Give {folder}/release.cbor to whoever verifies: tillstone attest verify URL --release FILE",
    "distrust.cbor": (
        "Put {folder}/trust.json in place of the box's trust.json and start the box: it makes the entry.\n"
        "Give the same file to whoever verifies. distrust.cbor is the statement alone, for an archive."
    ),
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`owner new|show|recovery-key|genesis|succeed|rotate|distrust|certify|release|policy-key|sign-site|update`."""
    parser = subparsers.add_parser("owner", description="Make the owner's offline key, and sign with it.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser("new", help="a new key in two shares, and the trust file that pins it")
    new.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="a new folder")
    new.add_argument("--passphrase", action="store_true", help="ask for a passphrase: both shares then need it too")
    add_passphrase_file(new)
    new.set_defaults(run=in_words(run_new))
    show = actions.add_parser("show", help="the owner's fingerprint, and what a trust file says; or prove two shares")
    show.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="a trust file, or both shares",
    )
    add_passphrase_file(show)
    show.set_defaults(run=in_words(run_show))
    recovery = actions.add_parser(
        "recovery-key", help="the key pair of recovery: opens what terminals keep for a lost box"
    )
    recovery.add_argument("file", type=Path, metavar="FILE", help="the private key; must not exist")
    recovery.set_defaults(run=run_recovery_key)
    for name, meaning, run in (
        ("genesis", "name a new log and its keys", run_genesis),
        ("succeed", "name the log that takes over from a lost or restored box", run_succeed),
        ("rotate", "name the next keys of a running log", run_rotate),
    ):
        action = actions.add_parser(name, help=meaning)
        action.add_argument("request", type=Path, metavar="REQUEST", help="what the box asks for")
        add_signing(action, run)
        if run is run_succeed:
            action.add_argument("--head", type=Path, required=True, help="the old log's last cosigned checkpoint")
            action.add_argument(
                "--witness",
                action="append",
                default=[],
                metavar="VKEY",
                help="a witness's key, beside those of the trust file",
            )
            action.add_argument("--needed", type=int, metavar="N", help="how many must vouch; 0 where nobody could")
    distrust = actions.add_parser("distrust", help="take the trust from a key that was in wrong hands")
    distrust.add_argument("--log", required=True, metavar="HEX", help="the log's id")
    distrust.add_argument("--key", required=True, metavar="HEX", help="SHA-256 of the public key")
    distrust.add_argument("--after", type=int, required=True, metavar="SIZE", help="the last head that is good")
    distrust.add_argument("--before", required=True, metavar="TIME", help="ISO 8601: what others saw earlier counts")
    add_signing(distrust, run_distrust)
    _add_attestation(actions)
    _add_site_actions(actions)
    add_update(actions)
    for action in actions.choices.values():
        add_json(action)


def _add_attestation(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    certify = actions.add_parser("certify", help="vouch for the key with which a box's TPM attests")
    certify.add_argument("request", type=Path, metavar="REQUEST", help="attestation.request, as the box made it")
    makers = certify.add_mutually_exclusive_group(required=True)
    makers.add_argument("--maker", type=Path, metavar="FILE", help="PEM: root and intermediates of the TPM's maker")
    makers.add_argument("--without-maker", action="store_true", help="nobody knows who made it: a software TPM")
    add_signing(certify, run_certify)
    release = actions.add_parser("release", help="say what an image leaves in a TPM when it starts")
    release.add_argument("manifest", type=Path, metavar="MANIFEST", help="the image's manifest.json")
    add_release(release)
    add_signing(release, run_release)


def _add_site_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    key = actions.add_parser("policy-key", help="the key that approves what a box must have started to open its token")
    key.add_argument("file", type=Path, metavar="FILE", help="the private key; must not exist")
    key.set_defaults(run=run_policy_key)
    action = actions.add_parser("sign-site", help="answer a new box's request with its shop's settings, for a stick")
    add_signing(action, run_sign_site)
    action.add_argument("site", type=Path, metavar="SITE.TOML", help="with files/ beside it: secrets, public keys")
    action.add_argument("--for", dest="request", type=Path, required=True, metavar="FILE", help="the box.request")
    action.add_argument("--policy-key", type=Path, required=True, metavar="FILE", help="made by `owner policy-key`")
    action.add_argument("--maker", type=Path, metavar="FILE", help="PEM: root and intermediates of the TPM's maker")


def run_policy_key(arguments: argparse.Namespace) -> int:
    """Needs the TPM's library, which other actions do without: imported here."""
    from provisioning.owner.site import run_policy_key as run

    return run(arguments)


def run_sign_site(arguments: argparse.Namespace) -> int:
    """As `run_policy_key`."""
    from provisioning.owner.site import run_sign_site as run

    return run(arguments)


def run_recovery_key(arguments: argparse.Namespace) -> int:
    """Write both files and say what is whose."""
    make_ready()
    public, key_id = make_recipient(arguments.file)
    print(f"{arguments.file}: keep it offline, with the owner's shares; without it no parcel can ever be opened.")
    print(f"{public}: into escrow.recipient_path of each box; SHA-256 {key_id}")
    print("  a sandbox's settings are written anew at each start: [escrow] goes into its box/extra.toml")
    return DONE


def run_new(arguments: argparse.Namespace) -> int:
    """Make key, shares and pin, then print the ceremony."""
    make_ready()
    passphrase = read_passphrase(arguments) or (_ask_twice() if arguments.passphrase else None)
    if passphrase is not None and len(passphrase) < _PASSPHRASE_BYTES_WARN:
        print(f"tillstone: {len(passphrase)} characters are soon guessed by who has both shares", file=sys.stderr)
    key = OwnerKey.generate()
    folder = new_folder(arguments.output)
    first, second = split(key, passphrase)
    shares = [folder / f"share-{share.number}.txt" for share in (first, second)]
    for path, share in zip(shares, (first, second), strict=True):
        write_new(path, share.text().encode())
    trust = folder / "trust.json"
    write_new(trust, encode_evidence(key.public, Evidence()))
    # Read back from the disk, not from memory: this is the last moment at which a mistake costs nothing.
    if joined_shares(shares, passphrase).public != key.public:
        raise CannotDo("the shares on the disk do not give the key", "use another disk")
    if arguments.json:
        print_json({"fingerprint": key.public.fingerprint, "shares": [str(path) for path in shares]})
        return DONE
    print(
        _CEREMONY.format(
            fingerprint=key.public.fingerprint,
            first=shares[0],
            second=shares[1],
            trust=trust,
            passphrase=" with your passphrase" if passphrase else "",
            option=" --passphrase-file FILE" if arguments.passphrase_file else "",
        )
    )
    return DONE


def run_show(arguments: argparse.Namespace) -> int:
    """What a trust file says; or that two shares give a key."""
    if len(arguments.files) == 2:
        make_ready()
        public = joined_shares(arguments.files, read_passphrase(arguments)).public
        lines: tuple[str, ...] = (f"both shares give the key of owner {public.fingerprint}",)
        fingerprint = public.fingerprint
    else:
        file = read_named(arguments.files[0], TRUST_BYTES_MAX)
        if (number := share_number(file.decode(errors="replace"))) is not None:
            raise CannotDo(f"{arguments.files[0]} is share {number} of 2", "name both: tillstone owner show FILE FILE")
        trust = load_trust(file)
        lines, fingerprint = statements.describe_trust(trust), trust.owner.fingerprint
    if arguments.json:
        print_json({"fingerprint": fingerprint, "says": list(lines)})
    else:
        print("\n".join(printable(line) for line in lines))
    return DONE


def run_genesis(arguments: argparse.Namespace) -> int:
    """Sign a first log's genesis."""
    return _sign(arguments, lambda trust: statements.genesis_request(_request(arguments), trust), "genesis.cbor")


def run_succeed(arguments: argparse.Namespace) -> int:
    """Sign a successor's genesis."""
    head = read_named(arguments.head, _REQUEST_BYTES_MAX)

    def asked(trust: Trust) -> GenesisStatement:
        return statements.succession_request(_request(arguments), trust, head, _witnesses(arguments, trust))

    return _sign(arguments, asked, "genesis.cbor")


def run_rotate(arguments: argparse.Namespace) -> int:
    """Sign a log's next keys; the box puts the rotation into its log and into its trust file."""
    return _sign(arguments, lambda trust: statements.rotation_request(_request(arguments), trust), "rotation.cbor")


def run_distrust(arguments: argparse.Namespace) -> int:
    """Take the trust from a key."""
    try:
        moment = datetime.datetime.fromisoformat(arguments.before)
        distrust = Distrust(
            log_id=LogId(bytes.fromhex(arguments.log)),
            key_id=bytes.fromhex(arguments.key),
            size=arguments.after,
            before_ms=round(moment.timestamp() * 1000) if moment.tzinfo else -1,
        )
    except ValueError as cause:
        raise CannotDo(f"an argument cannot be read: {cause}", "give hexadecimal ids and an ISO time") from cause
    if distrust.before_ms < 0 or distrust.size < 0:
        raise CannotDo("expected a size from 0 on and a time with its zone", "for example 2026-11-24T12:00:00+00:00")
    return _sign(arguments, lambda trust: statements.distrust_request(distrust, trust), "distrust.cbor")


def run_certify(arguments: argparse.Namespace) -> int:
    """Sign, and seal what was signed for the one TPM that may have it."""
    from provisioning.attest.certify import certified, read_request, seal_certificate
    from provisioning.attest.maker import read_makers

    request = read_request(_request(arguments))
    makers = None if arguments.maker is None else read_makers(read_named(arguments.maker, _REQUEST_BYTES_MAX))
    return _sign(
        arguments,
        lambda trust: certified(statements.of_known_log(request, trust), makers),
        "attestation.sealed",
        handed_over=lambda signed: seal_certificate(request, signed),
    )


def run_release(arguments: argparse.Namespace) -> int:
    """Sign what a release looks like."""
    return _sign(arguments, lambda _trust: release_of(arguments), "release.cbor")


def _sign(
    arguments: argparse.Namespace,
    asked: Callable[[Trust], statements.Statement],
    name: str,
    *,
    handed_over: Callable[[bytes], bytes] = bytes,
) -> int:
    make_ready()
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    statement = asked(trust)
    shown = tuple(printable(line) for line in statements.describe(statement))
    confirm(shown, arguments)
    owner = owner_key(arguments)
    statements.require_owner(owner.public, trust)
    signed = statements.sign(owner, statement)
    learnt = trust.learn(signed.evidence)
    folder = new_folder(arguments.output)
    write_new(folder / name, handed_over(signed.file))
    says_more = signed.evidence != Evidence()  # what a rotation says, only the entry that it becomes makes true
    if says_more:
        write_new(folder / "trust.json", learnt.encode())
    if arguments.json:
        trust_file = {"trust": str(folder / "trust.json")} if says_more else {}
        print_json({"signed": str(folder / name), **trust_file, "says": list(shown)})
    else:
        print(f"Signed. {_TO_THE_BOX[name].format(folder=folder)}\nErase the shares' files here.")
    return DONE


def _witnesses(arguments: argparse.Namespace, trust: Trust) -> WitnessPolicy:
    """Those of the trust file and of the arguments; somebody must have cosigned unless a person says otherwise."""
    given = tuple(WitnessKey.from_vkey(text) for text in arguments.witness)
    keys = tuple(dict.fromkeys((*trust.witnesses.keys, *given)))
    needed: int | None = arguments.needed
    if needed is None:
        needed = max(trust.witnesses.needed, len({key.name for key in given}))
        if needed == 0:
            raise CannotDo("no witness is named who could have cosigned the head", "--witness VKEY, or --needed 0")
    return WitnessPolicy(keys=keys, needed=needed)


def _ask_twice() -> bytes:
    if not sys.stdin.isatty():
        raise CannotDo("a passphrase is asked at a keyboard", "use --passphrase-file FILE, of mode 0600")
    first = getpass.getpass("New passphrase: ")
    if not first or getpass.getpass("Again: ") != first:
        raise CannotDo("the two passphrases differ, or are empty; nothing was made", "run the same command again")
    return first.encode()


def _request(arguments: argparse.Namespace) -> bytes:
    return read_named(arguments.request, _REQUEST_BYTES_MAX)
