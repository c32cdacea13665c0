"""Owns the rules about what code may do: checks survive `-O`, tasks have an owner, no error is swallowed."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.architecture.sources import OURS, PRODUCTION, listed, nodes, python_files, text

TASK_MAKERS = {"create_task", "ensure_future", "gather", "run_coroutine_threadsafe"}
# `TaskGroup` lives in the runtime; elsewhere code asks it for a task.
TASK_FOLDERS = ("appliance/runtime/",)
# Files outside the runtime that may make tasks, each with its reason.
TASK_FILES: dict[str, str] = {}

# The only places that may catch everything, each with its reason.
BROAD_EXCEPT_FILES = {
    "appliance/runtime/supervise.py": "where a task ends",
    "appliance/api/middleware.py": "where a request ends",
    "appliance/adapters/owner_thread.py": "a thread's border: what is not handed to the caller's future is lost",
    "appliance/ledger/writer.py": "a thread's border: the member that failed alone is answered with what it raised",
}
BROAD_NAMES = {"Exception", "BaseException"}

SUPPRESSION = re.compile(
    r"#\s*(?P<kind>type:\s*ignore|noqa)(?P<codes>\[[\w\s,-]+\]|:\s*[A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*)?(?P<rest>.*)"
)
REASON_LETTERS_MIN = 8


def test_production_code_never_uses_assert() -> None:
    violations = [f"{name}:{node.lineno}" for name, node in nodes(*PRODUCTION) if isinstance(node, ast.Assert)]
    assert not violations, listed(
        violations, "`assert` vanishes under -O: use ensure() of appliance/model/invariants.py"
    )


def test_tasks_are_born_in_the_runtime_only() -> None:
    violations = [
        f"{name}:{node.lineno} {node.attr}"
        for name, node in nodes(*PRODUCTION)
        if isinstance(node, ast.Attribute)
        and node.attr in TASK_MAKERS
        and not name.startswith(TASK_FOLDERS)
        and name not in TASK_FILES
    ]
    assert not violations, listed(violations, "a task has a name, an owner and an end: appliance/runtime makes it")


def test_only_two_modules_catch_everything() -> None:
    violations = [
        f"{name}:{node.lineno}"
        for name, node in nodes(*PRODUCTION)
        if isinstance(node, ast.ExceptHandler) and catches_everything(node) and name not in BROAD_EXCEPT_FILES
    ]
    assert not violations, listed(violations, f"broad `except` lives only in {', '.join(BROAD_EXCEPT_FILES)}")


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Broad, and not merely cleaning up or naming the cause: a handler that ends by raising swallows nothing."""
    if isinstance(handler.body[-1], ast.Raise):
        return False
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in BROAD_NAMES for kind in caught)


def test_every_suppression_names_its_code_and_its_reason() -> None:
    violations = []
    for name in python_files(*OURS):
        reasoned_lines = set()
        for line, comment, stands_alone in comments(name):
            found = SUPPRESSION.search(comment)
            if found and (not found["codes"] or not (has_reason(found["rest"]) or line - 1 in reasoned_lines)):
                violations.append(f"{name}:{line} {comment.strip()}")
            # A comment on the line above is a reason too.
            if stands_alone:
                reasoned_lines.add(line)
    assert not violations, listed(
        violations, "a suppression says which rule and why: `# noqa: S603 - the path is ours`"
    )


def has_reason(rest: str) -> bool:
    # What another suppression on the same line says is not a reason for the first.
    prose = SUPPRESSION.sub(lambda other: other["rest"], rest)
    return len(re.findall(r"[a-z]", prose)) >= REASON_LETTERS_MIN


def comments(name: str) -> Iterator[tuple[int, str, bool]]:
    """Each comment with its line, and whether the line holds nothing else."""
    for token in tokenize.generate_tokens(io.StringIO(text(name)).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, token.line.lstrip().startswith("#")
