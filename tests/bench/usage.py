"""What a process uses, read from procfs: processor time and memory. Owns no process."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mb(pid: int) -> float:
    """VmRSS."""
    return _status_kb(pid, "VmRSS:") / 1024


def peak_mb(pid: int) -> float:
    """VmHWM: the most it ever was."""
    return _status_kb(pid, "VmHWM:") / 1024


def folder_bytes(folder: Path) -> int:
    """All files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _status_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(f"expected {field} in the status of {pid}")
