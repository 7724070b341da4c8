"""The ranges of error codes: what each code is for, and the blocks of codes of plugins."""

REQUEST = range(10_000, 11_000)
"""Errors in the form of a request."""
VALIDATION = range(11_000, 12_000)
CLIENT = range(12_000, 13_000)
RESOURCE = range(13_000, 15_000)
SERVICE = range(15_000, 20_000)

BLOCK_SIZE = 100
"""The number of codes in the block of a distribution with plugins."""
DECLARED = range(20_000, 100_000)
"""The codes of the blocks that distributions declare."""
DERIVED = range(100_000, 2_100_100_000)
"""The codes of the blocks that are derived from the names of distributions; all are below 2^31."""
PLUGINS = range(DECLARED.start, DERIVED.stop)
