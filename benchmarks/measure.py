"""What processes have used: CPU time of a whole tree of them, and the memory of the largest."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psutil

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def cpu_seconds(root: psutil.Process) -> float:
    """Return the CPU time that `root` and its descendants have used, those that have ended included."""
    ended = root.cpu_times()
    total: float = ended.children_user + ended.children_system
    for process in _tree(root):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def peak_bytes(root: psutil.Process) -> int:
    """Return the most memory that any one process of the tree has held; where the system keeps no peak, holds now."""
    peaks = [0]
    for process in _tree(root):
        with suppress(psutil.NoSuchProcess):
            peaks.append(_peak(process))
    return max(peaks)


def _peak(process: psutil.Process) -> int:
    try:
        found = _PEAK.search(Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else int(process.memory_info().rss)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]
