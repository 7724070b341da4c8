"""Identities of items: UUIDv7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import time

_RANDOM = (1 << 62) - 1


def uuid7() -> str:
    """Return a new identity in lower case; those made by one process later sort later.

    The twelve bits after the version hold the fraction of the millisecond (RFC 9562 §6.2, method 3).
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & _RANDOM | 0x2 << 62
    head, tail = f"{milliseconds:012x}", f"{random:016x}"
    return f"{head[:8]}-{head[8:]}-7{fraction:03x}-{tail[:4]}-{tail[4:]}"
