"""Owns the rules about the repository as a whole: its tools are strict, it names no machine and no package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.architecture.sources import PROJECT, listed, project_files, text

APT_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
# A checkout may lie in one of these, and code may rightly name them.
FOLDERS_OF_EVERY_MACHINE = {Path(name) for name in ("/", "/tmp", "/home", "/opt", "/srv", "/usr", "/usr/src", "/var")}
HOST = re.compile(r"https?://(?:[^/@\s]*@)?([a-z0-9.-]+\.[a-z]{2,})", re.IGNORECASE)

# Hash-locked requirements and their tools; the order of `make check` is part of the promise.
CHECK_COMMANDS = ("ruff format --check .", "ruff check .", "mypy", "lint-imports", "pytest")


def configured_hosts() -> set[str]:
    """Hosts of the package indexes this machine uses, read from its own configuration."""
    files = [file for place in APT_SOURCES for file in ([place] if place.is_file() else sorted(place.glob("*")))]
    settings = [file.read_text(encoding="utf-8", errors="replace") for file in files if os.access(file, os.R_OK)]
    pip = [sys.executable, "-m", "pip", "config", "list"]
    settings.append(subprocess.run(pip, check=False, capture_output=True, text=True).stdout)
    if npm := shutil.which("npm"):
        settings.append(
            subprocess.run([npm, "config", "get", "registry"], check=False, capture_output=True, text=True).stdout
        )
    return {host.lower() for setting in settings for host in HOST.findall(setting)}


def naming(words: set[str], boundary: str) -> list[str]:
    """Files that hold one of `words` not preceded by a character of `boundary`, as "file: word"."""
    if not words:
        return []
    pattern = re.compile(rf"(?<![{boundary}])(?:{'|'.join(map(re.escape, sorted(words)))})")
    return [f"{name}: {found.group()}" for name in project_files() if (found := pattern.search(text(name)))]


def test_no_file_names_a_package_index() -> None:
    violations = naming(configured_hosts(), r"\w-")
    assert not violations, listed(violations, "every machine brings its own package indexes")


def test_no_file_names_a_path_of_one_machine() -> None:
    # A folder's name in the middle of a relative path is no machine's path: a path begins where no name ends.
    folders = {PROJECT, PROJECT.parent, Path.home()} - FOLDERS_OF_EVERY_MACHINE
    violations = naming({f"{folder}/" for folder in folders}, r"\w.~*{}$)-")
    assert not violations, listed(violations, "paths are relative to the project, or found at run time")


def test_types_layers_and_warnings_are_strict() -> None:
    tools = tomllib.loads(text("pyproject.toml"))["tool"]
    assert tools["mypy"]["strict"] is True
    assert set(tools["mypy"]["packages"]) == {"appliance", "drivers", "image", "provisioning", "tests"}
    assert set(tools["importlinter"]["root_packages"]) == {"appliance", "drivers", "image", "provisioning"}
    layers = next(contract for contract in tools["importlinter"]["contracts"] if contract["type"] == "layers")
    assert layers["exhaustive"] is True
    assert tools["pytest"]["ini_options"]["filterwarnings"][0] == "error"
    assert "--disable-socket" in tools["pytest"]["ini_options"]["addopts"]


def test_every_dependency_is_locked_with_hashes() -> None:
    violations = []
    for name in ("requirements/run.txt", "requirements/dev.txt", "requirements/build.txt"):
        for requirement in re.split(r"\n(?=\S)", text(name).strip()):
            if not requirement.startswith("#") and not ("==" in requirement and "--hash=sha256:" in requirement):
                violations.append(f"{name}: {requirement.splitlines()[0]}")
    assert not violations, listed(violations, "make lock pins everything with its hash")


def test_continuous_integration_ends_with_the_same_check_as_a_developer() -> None:
    makefile = text("Makefile")
    recipe = makefile[makefile.index("\ncheck:") :].split("\n\n", 1)[0].splitlines()[2:]
    assert [line.strip().removeprefix("$(BIN)/") for line in recipe] == list(CHECK_COMMANDS)
    assert text(".ci/run").rstrip().splitlines()[-1] == "make check"
