"""Owns the promises of the sizes: what takes the room is told by name, and an image that is too large is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from image.sizes import DISK_BYTES_MAX, UKI_BYTES_MAX, TooLarge, tell_sizes


def told(folder: Path, *, disk_bytes: int, uki_bytes: int) -> None:
    base, root, initrd = folder / "base", folder / "root", folder / "initrd"
    for made in (base / "kernel/boot", base / "tree/var/lib/dpkg/info", root / "usr/lib/tillstone/stripe",
                 root / "usr/bin", initrd / "usr/bin", initrd / "usr/lib/modules"):  # fmt: skip
        made.mkdir(parents=True)
    (base / "kernel/boot/vmlinuz-6").write_bytes(bytes(4_000_000))
    (base / "tree/var/lib/dpkg/info/systemd:amd64.list").write_text("/usr/bin/systemctl\n")
    (root / "usr/lib/tillstone/stripe/client.py").write_bytes(bytes(2_000_000))
    (root / "usr/bin/systemctl").write_bytes(bytes(1_000_000))
    (initrd / "usr/bin/systemctl").write_bytes(bytes(500_000))
    (initrd / "usr/lib/modules/ext4.ko").write_bytes(bytes(300_000))
    sizes = {"disk_bytes": disk_bytes, "disk_stored_bytes": 1, "uki_bytes": uki_bytes, "initrd_bytes": 3_000_000}
    (folder / "manifest.json").write_text(json.dumps({"root_hash": "ab", "sizes": sizes}))
    tell_sizes(folder, base=base, root=root, initrd=initrd)


def test_what_takes_the_room_is_told_the_largest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(tmp_path, disk_bytes=DISK_BYTES_MAX, uki_bytes=UKI_BYTES_MAX)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "kernel image 30.0 MB: kernel 4.0 MB, initrd 3.0 MB, and the stub" in lines
    root = lines[lines.index("before compression the root holds 3.0 MB, most of it:") + 1 :]
    assert root[:2] == ["2.0 MB  Python: stripe", "1.0 MB  Debian: systemd"]
    initrd = lines[lines.index("before compression the initrd holds 0.8 MB, most of it:") + 1 :]
    assert initrd[:2] == ["0.5 MB  Debian: systemd", "0.3 MB  kernel modules"]


@pytest.mark.parametrize(("disk", "uki"), [(1, 0), (0, 1)])
def test_an_image_beyond_its_limit_is_refused(tmp_path: Path, disk: int, uki: int) -> None:
    with pytest.raises(TooLarge):
        told(tmp_path, disk_bytes=DISK_BYTES_MAX + disk, uki_bytes=UKI_BYTES_MAX + uki)
