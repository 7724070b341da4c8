"""The resource usage of processes: the CPU time of a process tree, and the memory of its largest process."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psutil

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def cpu_seconds(root: psutil.Process) -> float:
    """Return the CPU time of `root` and its descendants, including those that have ended."""
    ended = root.cpu_times()
    total: float = ended.children_user + ended.children_system
    for process in _tree(root):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def peak_bytes(root: psutil.Process) -> int:
    """Return the largest peak memory of a process of the tree, or its current memory if the system reports no peak."""
    peaks = [0]
    for process in _tree(root):
        with suppress(psutil.NoSuchProcess):
            peaks.append(_peak(process))
    return max(peaks)


def _peak(process: psutil.Process) -> int:
    try:
        match = _PEAK.search(Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        match = None
    return int(match[1]) * 1024 if match else int(process.memory_info().rss)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]
