"""A PostgreSQL cluster of three members under Patroni with synchronous replication, with etcd and HAProxy."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

_LOCAL = "127.0.0.1"
_MEMBERS = ("one", "two", "three")
_SBIN = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"

_PATRONI = """
scope: pegboard
name: {name}
restapi: {{listen: "{local}:{rest}", connect_address: "{local}:{rest}"}}
etcd3: {{host: "{local}:{etcd}"}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {pace}
    retry_timeout: {pace}
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql: {{use_pg_rewind: true, parameters: {{max_connections: 100}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}]
postgresql:
  listen: "{local}:{port}"
  connect_address: "{local}:{port}"
  data_dir: {folder}/data
  bin_dir: {programs}
  pgpass: {folder}/pgpass
  authentication:
    superuser: {{username: postgres, password: postgres}}
    replication: {{username: replicator, password: replicator}}
    rewind: {{username: rewinder, password: rewinder}}
  parameters: {{unix_socket_directories: "{folder}"}}
  pg_hba: ["host all all {local}/32 trust", "host replication all {local}/32 trust"]
"""

_HAPROXY = """
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
listen primary
    bind {local}:{port}
    option httpchk GET /primary
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


class Missing(Exception):
    """Report which program has to be installed."""


def find_program(program: str, package: str) -> str:
    """Return the path of a program; raises `Missing`."""
    path = shutil.which(program, path=_SBIN)
    if path is None:
        raise Missing(f"{program} is missing: apt-get install {package}")
    return path


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until `condition` returns true; raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


@dataclass
class Member:
    """Manage one PostgreSQL and its Patroni."""

    name: str
    folder: Path
    port: int
    rest: int
    patroni: subprocess.Popen[bytes] | None = None

    def postmaster(self) -> int:
        """Return the process id of its PostgreSQL."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """Kill both at once, as in a power failure."""
        if self.patroni is None:
            return
        self.patroni.kill()
        with suppress(OSError, ValueError, IndexError):
            os.kill(self.postmaster(), signal.SIGKILL)
        self.patroni.wait()
        self.patroni = None


class Cluster:
    """Run the cluster in a folder, each process on a free port; `ttl` is Patroni's lease of the leader in seconds."""

    def __init__(self, folder: Path, ttl: int) -> None:
        self._folder = folder
        self._ttl = ttl
        self._etcd, self._haproxy, *ports = _free_ports(2 + 2 * len(_MEMBERS))
        self._others: list[subprocess.Popen[bytes]] = []
        self.members = [
            Member(name, folder / name, ports[2 * number], ports[2 * number + 1])
            for number, name in enumerate(_MEMBERS)
        ]

    def __enter__(self) -> Cluster:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill()
        for process in self._others:
            process.kill()
            process.wait()

    def url(self, route: str, database: str = "pegboard") -> str:
        """Return the URL of the primary for services: that of HAProxy, or one with all hosts."""
        ports = [self._haproxy] if route == "haproxy" else [member.port for member in self.members]
        hosts = ",".join(f"{_LOCAL}:{port}" for port in ports)
        return f"postgresql://postgres@{hosts}/{database}"

    def start(self, member: Member) -> None:
        """Start Patroni, which starts PostgreSQL."""
        member.patroni = self._launch(
            member.folder / "log", find_program("patroni", "patroni"), member.folder / "patroni.yml"
        )

    def is_healthy(self) -> bool:
        """Return whether there is a leader and all others follow it, one of them synchronously."""
        roles = [(member["role"], member["state"]) for member in self._state()]
        all_running = all(state in ("running", "streaming") for _, state in roles)
        sorted_roles = sorted(role for role, _ in roles)
        return all_running and sorted_roles == ["leader", "replica", "sync_standby"]

    def leader(self) -> Member:
        """Return the current leader."""
        name = next(member["name"] for member in self._state() if member["role"] == "leader")
        return next(member for member in self.members if member.name == name)

    def _begin(self) -> None:
        give_to_postgres(self._folder)
        client, peer = f"http://{_LOCAL}:{self._etcd}", f"http://{_LOCAL}:{_free_ports(1)[0]}"
        self._others.append(
            self._launch(
                self._folder / "etcd.log",
                find_program("etcd", "etcd-server"),
                *("--data-dir", self._folder / "etcd", "--name", "etcd"),
                *("--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer),
                *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"etcd={peer}"),
            )
        )
        wait_until("etcd", lambda: _is_listening(self._etcd))
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not folders:
            raise Missing("initdb is missing: apt-get install postgresql")
        for member in self.members:
            member.folder.mkdir()
            give_to_postgres(member.folder)
            text = _PATRONI.format(
                name=member.name,
                local=_LOCAL,
                rest=member.rest,
                port=member.port,
                etcd=self._etcd,
                ttl=self._ttl,
                pace=max(1, self._ttl // 4),
                folder=member.folder,
                programs=folders[-1],
            )
            (member.folder / "patroni.yml").write_text(text)
            self.start(member)
        servers = "\n".join(f"    server {m.name} {_LOCAL}:{m.port} check port {m.rest}" for m in self.members)
        configuration = self._folder / "haproxy.cfg"
        configuration.write_text(_HAPROXY.format(local=_LOCAL, port=self._haproxy, servers=servers))
        wait_until("three members", self.is_healthy, 180)
        self._others.append(
            self._launch(self._folder / "haproxy.log", find_program("haproxy", "haproxy"), "-f", configuration)
        )
        wait_until("HAProxy", lambda: _is_listening(self._haproxy))

    def _launch(self, log: Path, *command: str | Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, cwd="/", **_account())

    def _state(self) -> list[dict[str, Any]]:
        for member in self.members:
            with (
                suppress(URLError, OSError, ValueError),
                urlopen(f"http://{_LOCAL}:{member.rest}/cluster", timeout=2) as response,
            ):
                members: list[dict[str, Any]] = json.load(response)["members"]
                return members
        return []


def give_to_postgres(path: Path) -> None:
    """Change the owner of a folder to the user of PostgreSQL."""
    account = _account()
    if account:
        os.chown(path, account["user"], account["group"])


def _account() -> dict[str, Any]:
    """Return the user to run as, since PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server((_LOCAL, 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_LOCAL, port)) == 0
