"""Owns the promises of the build's parts: made once, made again when something changed, never kept when cut short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from image.workshop import Workshop, WorkshopBusy, alone, fingerprint


class Made(Exception):
    """Raised by a part that is not to be made again."""


def never(_folder: Path) -> None:
    raise Made


def writing(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "made").write_text(text)

    return make


def workshop(folder: Path) -> Workshop:
    return Workshop(folder=folder / "work", parts=1)


def test_a_part_is_made_once(tmp_path: Path) -> None:
    workshop(tmp_path).part("root", "root", ["a"], writing("first"))
    made = workshop(tmp_path).part("root", "root", ["a"], never)
    assert (made / "made").read_text() == "first"


@pytest.mark.parametrize("change", ["content", "mode", "name", "link"])
def test_a_part_is_made_again_when_a_file_it_depends_on_changed(tmp_path: Path, change: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    (source / "link").symlink_to("file")
    workshop(tmp_path).part("root", "root", [source], writing("first"))
    if change == "content":
        (source / "file").write_text("y")
    elif change == "mode":
        (source / "file").chmod(0o755)
    elif change == "name":
        (source / "file").rename(source / "other")
    else:
        (source / "link").unlink()
        (source / "link").symlink_to("elsewhere")
    made = workshop(tmp_path).part("root", "root", [source], writing("second"))
    assert (made / "made").read_text() == "second"


def test_a_part_cut_short_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(Made):
        workshop(tmp_path).part("root", "root", ["a"], never)
    made = workshop(tmp_path).part("root", "root", ["a"], writing("whole"))
    assert [path.name for path in made.iterdir()] == ["made"]


def test_what_an_old_part_left_is_gone_from_the_new_one(tmp_path: Path) -> None:
    folder = workshop(tmp_path).part("root", "root", ["a"], writing("first"))
    (folder / "old").touch()
    made = workshop(tmp_path).part("root", "root", ["b"], writing("second"))
    assert [path.name for path in made.iterdir()] == ["made"]


def test_ingredients_do_not_run_into_each_other() -> None:
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(WorkshopBusy), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
