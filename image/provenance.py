"""`provenance.json`: from what, how and by whom an image was made, signed by the release key.

Owns the statement's content (appliance/docs/formats/provenance.md) and its check. Its subjects are all other files of
an image, so the manifest is signed by it, too. Must never name a file that it has not hashed.

Source: in-toto attestation framework, Statement v1; SLSA 1.0, provenance v1.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from appliance.crypto.hybrid import HybridPublic
from appliance.crypto.signing_key import SigningKey
from appliance.model.errors import Rejected
from image.definition import Profile, lock_time, version
from image.dsse import ENVELOPE_BYTES_MAX, seal, unseal
from image.materials import Resource, file_sha256

NAME: Final = "provenance.json"
SUBJECTS: Final = ("disk.raw", "uki.efi", "update", "manifest.json", "sbom.cdx.json")
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:tillstone:image-build:1"
BUILDER: Final = "urn:tillstone:builder:make-image"


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever starts the build chooses."""

    profile: str
    version: str


class BuildDefinition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The inputs. `internal_parameters` holds the time that all files carry."""

    build_type: str
    external_parameters: Parameters
    internal_parameters: dict[str, int]
    resolved_dependencies: tuple[Resource, ...]


class Builder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who made it; its dependencies ran during the build and are not in the image."""

    id: str
    builder_dependencies: tuple[Resource, ...]


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When; RFC 3339."""

    finished_on: str


class RunDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    builder: Builder
    metadata: Metadata


class Predicate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """SLSA provenance v1."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """in-toto Statement v1. Fields that are not known here are passed over, as the framework asks."""

    type: str = msgspec.field(name="_type")
    subject: tuple[Resource, ...]
    predicate_type: str
    predicate: Predicate


def write_provenance(
    folder: Path,
    *,
    image: Path,
    profile: Profile,
    made_from: Sequence[Resource],
    made_with: Sequence[Resource],
    keys: Sequence[SigningKey],
) -> None:
    """Write it to `folder` for the finished files in `image`."""
    definition = BuildDefinition(
        build_type=BUILD_TYPE,
        external_parameters=Parameters(profile=profile, version=version()),
        internal_parameters={"SOURCE_DATE_EPOCH": lock_time()},
        resolved_dependencies=tuple(made_from),
    )
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    details = RunDetails(
        builder=Builder(id=BUILDER, builder_dependencies=tuple(made_with)), metadata=Metadata(finished_on=now)
    )
    statement = Statement(
        type=STATEMENT_TYPE,
        subject=tuple(Resource.of_file(image / name, name) for name in SUBJECTS),
        predicate_type=PREDICATE_TYPE,
        predicate=Predicate(build_definition=definition, run_details=details),
    )
    (folder / NAME).write_bytes(seal(msgspec.json.encode(statement), keys))


def verify_provenance(folder: Path, release: HybridPublic) -> Statement:
    """What the release key says of the image in `folder`, whose files are all as it says.

    Raises:
        Rejected: `provenance_missing`, `provenance_malformed`, `subject_missing` (a file that is not there or that the
            statement does not name), `subject_wrong` (a file of other bytes), `dsse_malformed`, the codes of
            `hybrid.require_both` with noun "signature".
    """
    try:
        with (folder / NAME).open("rb") as file:
            envelope = file.read(ENVELOPE_BYTES_MAX + 1)
    except OSError as cause:
        raise Rejected("provenance_missing", f"{NAME} cannot be read: {cause.strerror}") from cause
    payload = unseal(envelope, release)
    try:
        statement = msgspec.json.decode(payload, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise Rejected("provenance_malformed", f"expected SLSA provenance in an in-toto statement: {cause}") from cause
    kinds = (statement.type, statement.predicate_type, statement.predicate.build_definition.build_type)
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE, BUILD_TYPE):
        raise Rejected("provenance_malformed", f"expected provenance of an image, saw {' '.join(kinds)}")
    _check_subjects(folder, statement.subject)
    return statement


def _check_subjects(folder: Path, subjects: Sequence[Resource]) -> None:
    """Each of `SUBJECTS` must be named; what else is named is of other files, which nobody asked about."""
    named = {subject.name: subject.digest.get("sha256", "") for subject in subjects}
    for name in SUBJECTS:
        if name not in named:
            raise Rejected("subject_missing", f"the provenance does not name {name}")
        try:
            found = file_sha256(folder / name)
        except OSError as cause:
            raise Rejected("subject_missing", f"{name} cannot be read: {cause.strerror}") from cause
        if found != named[name]:
            raise Rejected("subject_wrong", f"{name}: expected SHA-256 {named[name]}, saw {found}")
