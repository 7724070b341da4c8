"""Ids of items: UUIDv7 (RFC 9562), which sort by the time of their creation."""

from __future__ import annotations

import os
import time

_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def uuid7() -> str:
    """Return a new id in lower case; ids that one process generates sort in the order of their generation.

    The twelve bits after the version hold the fraction of the millisecond (RFC 9562 §6.2, method 3).
    """
    # Milliseconds and 4,096ths of one in a single number: 64 / 15,625 is 4,096 / 1,000,000.
    clock, random = f"{time.time_ns() * 64 // 15_625:015x}", os.urandom(8).hex()
    return f"{clock[:8]}-{clock[8:12]}-7{clock[12:]}-{_VARIANT[random[0]]}{random[1:4]}-{random[4:]}"
