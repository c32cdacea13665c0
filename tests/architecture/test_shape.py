"""Owns the rules of size and names: what keeps a file readable in one go."""

from __future__ import annotations

import ast
from pathlib import PurePosixPath

from tests.architecture.sources import OURS, PRODUCTION, PROJECT, listed, nodes, project_files, python_files, text, tree

LINES_MAX = 400
FUNCTION_LINES_MAX = 70
CODE_SUFFIXES = (".py", ".sh", ".ts", ".tsx", ".mk", ".js", ".html")

# Names that say nothing about what a module holds.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "data", "info"}

# Files that may be longer, each with its reason.
LONG_FILES: dict[str, str] = {}

# Functions that may be longer, as "file:name", each with its reason.
LONG_FUNCTIONS: dict[str, str] = {}

MODULES_WITHOUT_README_MAX = 2
# Each of these is a place people enter from the top: it explains itself from its first module on.
FOLDERS_WITH_README = ("appliance", "drivers", "provisioning", "tests")


def test_no_file_of_ours_is_longer_than_400_lines() -> None:
    lengths = {name: text(name).count("\n") for name in project_files() if name.endswith(CODE_SUFFIXES)}
    violations = [
        f"{name}: {lines} lines" for name, lines in lengths.items() if lines > LINES_MAX and name not in LONG_FILES
    ]
    assert not violations, listed(violations, f"a file stops at {LINES_MAX} lines")


def test_no_function_is_longer_than_70_lines() -> None:
    violations = []
    for name, node in nodes(*OURS):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX and f"{name}:{node.name}" not in LONG_FUNCTIONS:
                violations.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert not violations, listed(violations, f"a function stops at {FUNCTION_LINES_MAX} lines")


def test_no_module_has_an_empty_name() -> None:
    violations = [
        name
        for name in project_files()
        if EMPTY_NAMES & {PurePosixPath(part).stem for part in PurePosixPath(name).parts}
    ]
    assert not violations, listed(violations, "a name says what is inside")


def test_every_module_says_what_it_owns() -> None:
    # An empty __init__.py only marks a package.
    violations = [name for name in python_files(*OURS) if text(name).strip() and ast.get_docstring(tree(name)) is None]
    assert not violations, listed(violations, "a module opens with what it owns and what it must never do")


def test_every_folder_with_several_modules_has_a_readme() -> None:
    modules: dict[str, int] = dict.fromkeys(FOLDERS_WITH_README, MODULES_WITHOUT_README_MAX + 1)
    for name in python_files(*PRODUCTION):
        path = PurePosixPath(name)
        if path.name != "__init__.py":
            modules[str(path.parent)] = modules.get(str(path.parent), 0) + 1
    violations = [
        f"{folder}/README.md"
        for folder, count in sorted(modules.items())
        if count > MODULES_WITHOUT_README_MAX and not (PROJECT / folder / "README.md").is_file()
    ]
    assert not violations, listed(
        violations, f"a folder with more than {MODULES_WITHOUT_README_MAX} modules explains itself"
    )


def test_exceptions_name_things_that_exist() -> None:
    functions = {
        f"{name}:{node.name}" for name, node in nodes(*OURS) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    violations = sorted((LONG_FILES.keys() - set(project_files())) | (LONG_FUNCTIONS.keys() - functions))
    assert not violations, listed(violations, "an exception whose reason is gone is deleted")
