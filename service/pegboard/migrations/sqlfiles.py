"""The numbered SQL files of a package: how they are named, read, told apart and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources.abc import Traversable

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_MARK = re.compile(r"-- pegboard: (.*)")
_NO_TRANSACTION = "no-transaction"
_BASELINE = "baseline "
# What may hide a statement's words: comments, dollar quotes, texts and names.
_HIDDEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|[eE]'(?:\\.|''|[^'\\])*'|'[^']*'|"[^"]*\"""", re.DOTALL
)
_TRANSACTION = re.compile(
    r"(?:^|;)\s*(BEGIN(?!\s+ATOMIC)|START\s+TRANSACTION|COMMIT|ROLLBACK|ABORT|PREPARE\s+TRANSACTION)\b", re.IGNORECASE
)


class MigrationError(Exception):
    """Say in one line why migrations cannot be applied."""


@dataclass(frozen=True, slots=True)
class SqlFile:
    """Hold one file; its text has LF at the end of each line, whatever the checkout made of it."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the digest by which an edit is noticed."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        """Tell whether the file has no statement; asyncpg fails on an empty one."""
        return not self.words.strip("; \n\t\r\f")

    @property
    def words(self) -> str:
        """Return the text without comments, and without what stands in quotes."""
        return _HIDDEN.sub(lambda match: " " if match[0][:2] in ("--", "/*") else "''", self.text)

    @property
    def in_transaction(self) -> bool:
        """Tell whether the file runs in a transaction; `-- pegboard: no-transaction` in its first line opts out."""
        return self._mark != _NO_TRANSACTION

    @property
    def baseline(self) -> str | None:
        """Return the fingerprint in the first line `-- pegboard: baseline FINGERPRINT`.

        The file holds what made the table of a schema with that fingerprint, and is not run where it has made it.
        """
        return self._mark.removeprefix(_BASELINE).strip() if self._mark.startswith(_BASELINE) else None

    @property
    def _mark(self) -> str:
        mark = _MARK.fullmatch(self.text.partition("\n")[0].strip())
        return "" if mark is None else mark[1]


def read(folder: Traversable | None) -> tuple[SqlFile, ...]:
    """Return the SQL files of a package's folder by number, 0001 first; none when there is no folder.

    Raises `MigrationError` for a bad name, a number that is missing or there twice, and what a file may not hold.
    """
    if folder is None or not folder.is_dir():
        return ()
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.lower().endswith(".sql"))
    return tuple(_read(folder, name, expected) for expected, name in enumerate(names, 1))


def pending(files: tuple[SqlFile, ...], recorded: Mapping[int, str]) -> tuple[SqlFile, ...]:
    """Return the files that are yet to be applied, given the checksums of those that are, by number.

    Raises `MigrationError` for an applied file that was edited and for one that comes too late.
    """
    newest = max(recorded, default=0)
    for file in files:
        if file.version in recorded and recorded[file.version] != file.checksum:
            raise MigrationError(f"{file.name} was edited after it was applied: put the change into a new file")
        if file.version not in recorded and file.version < newest:
            raise MigrationError(f"{file.name} is new, but {newest:04} is already applied: give it the next number")
    return tuple(file for file in files if file.version not in recorded)


def _read(folder: Traversable, name: str, expected: int) -> SqlFile:
    match = _NAME.fullmatch(name)
    if match is None:
        raise MigrationError(f"{name} is not a valid name for a migration: write it as 0001_what_it_does.sql")
    version = int(match[1])
    if version != expected:
        problem = "is used twice" if version == expected - 1 else f"is out of order: use {expected:04}"
        raise MigrationError(f"{name}: the number {version:04} {problem}")
    try:
        text = folder.joinpath(name).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MigrationError(f"{name} is not UTF-8") from None
    file = SqlFile(version, name, text.replace("\r\n", "\n"))
    word = _TRANSACTION.search(file.words)
    if file.in_transaction and word:
        raise MigrationError(f"{name} contains {word[1].upper()}, but already runs in one transaction: remove it")
    return file
