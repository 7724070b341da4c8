"""The numbered SQL files of a package: their names, texts, checksums and checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources.abc import Traversable

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_MARK = re.compile(r"-- pegboard: (.*)")
# A line of a comment that may be meant as a mark; it is never overlooked that a draft is unread.
_LIKE_MARK = re.compile(r"--\W*pegboard\s*:\s*(.*)", re.IGNORECASE)
_LIKE_UNREAD = re.compile(r"\W*pegboard\W+unread\W*", re.IGNORECASE)
_NO_TRANSACTION = "no-transaction"
_BASELINE = "baseline "
_AFTER = re.compile(r"after ([a-z0-9_-]+) (\d{4})")
# What may contain the words of a statement without being one: comments, dollar quotes, strings and names.
_HIDDEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|[eE]'(?:\\.|''|[^'\\])*'|'[^']*'|"[^"]*\"""", re.DOTALL
)
_TRANSACTION = re.compile(
    r"(?:^|;)\s*(BEGIN(?!\s+ATOMIC)|START\s+TRANSACTION|COMMIT|ROLLBACK|ABORT|PREPARE\s+TRANSACTION)\b", re.IGNORECASE
)


class MigrationError(Exception):
    """Report in one line why migrations cannot be applied."""


@dataclass(frozen=True, slots=True)
class SqlFile:
    """Represent one SQL file; its lines end with LF on every platform."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the digest that detects an edit."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        """Return whether the file has no statement; asyncpg fails on an empty one."""
        return not self.words.strip("; \n\t\r\f")

    @property
    def words(self) -> str:
        """Return the text without comments and quoted parts."""
        return _HIDDEN.sub(lambda match: " " if match[0][:2] in ("--", "/*") else "''", self.text)

    @property
    def in_transaction(self) -> bool:
        """Return whether the file runs in a transaction; the mark `-- pegboard: no-transaction` opts out."""
        return _NO_TRANSACTION not in self._marks

    @property
    def baseline(self) -> str | None:
        """Return the fingerprint in the mark `-- pegboard: baseline FINGERPRINT`.

        The file creates the table of a schema with that fingerprint, and is not run if the schema has created it.
        """
        marks = (mark.removeprefix(_BASELINE).strip() for mark in self._marks if mark.startswith(_BASELINE))
        return next(marks, None)

    @property
    def after(self) -> tuple[tuple[str, int], ...]:
        """Return the plugins and the numbers of their files that must be applied before this one."""
        found = (_AFTER.fullmatch(mark) for mark in self._marks)
        return tuple((match[1], int(match[2])) for match in found if match)

    def check_marks(self) -> None:
        """Raise `MigrationError` for a draft that nobody has read, and for an unknown or misplaced mark."""
        for line in self._comments:
            if _LIKE_UNREAD.fullmatch(line.text):
                raise MigrationError(
                    f"{self.name} is a draft that nobody has read: "
                    f"edit it and delete line {line.number}, which marks it as unread, or delete the file"
                )
        for line in self._comments:
            found = _LIKE_MARK.fullmatch(line.text)
            if found is None:
                continue
            mark = found[1]
            if not (_MARK.fullmatch(line.text) and _is_known(mark)):
                known = "no-transaction, after NAME NNNN, baseline FINGERPRINT or unread"
                raise MigrationError(
                    f"{self.name} has the unknown mark {mark!r} in line {line.number}: write -- pegboard: and {known}"
                )
            if not line.is_at_start:
                raise MigrationError(
                    f"{self.name} has the mark {mark!r} in line {line.number}, behind its first statement: "
                    "move it to the start of the file"
                )

    @property
    def _marks(self) -> tuple[str, ...]:
        """Return what the lines `-- pegboard: ...` before the first statement contain."""
        lines = (_MARK.fullmatch(line.text) for line in self._comments if line.is_at_start)
        return tuple(match[1] for match in lines if match)

    @property
    def _comments(self) -> Iterator[_CommentLine]:
        """Yield the lines of all comments; what is quoted is none."""
        code, end = "", 0
        for match in _HIDDEN.finditer(self.text):
            code += self.text[end : match.start()]
            end = match.end()
            if not match[0].startswith(("--", "/*")):
                code += match[0]
                continue
            first = self.text.count("\n", 0, match.start()) + 1
            for number, text in enumerate(match[0].split("\n"), first):
                yield _CommentLine(number, text.strip(), is_at_start=not code.strip("; \n\t\r\f"))


@dataclass(frozen=True, slots=True)
class _CommentLine:
    """Represent one line of a comment; it `is_at_start` if no statement comes before it."""

    number: int
    text: str
    is_at_start: bool


def _is_known(mark: str) -> bool:
    return mark == _NO_TRANSACTION or mark.startswith(_BASELINE) or bool(_AFTER.fullmatch(mark))


def read(folder: Traversable | None) -> tuple[SqlFile, ...]:
    """Return the SQL files of a package's folder by number, 0001 first; none if there is no folder.

    Raises `MigrationError` for an invalid name, a missing or duplicate number, and a statement that is not allowed.
    """
    if folder is None or not folder.is_dir():
        return ()
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.lower().endswith(".sql"))
    return tuple(_read(folder, name, expected) for expected, name in enumerate(names, 1))


def pending(files: tuple[SqlFile, ...], recorded: Mapping[int, str]) -> tuple[SqlFile, ...]:
    """Return the files that are not applied yet; `recorded` are the checksums of applied ones, by number.

    Raises `MigrationError` for an applied file that was edited, for a new one with a number below an applied one, and
    for one that nobody has read.
    """
    newest = max(recorded, default=0)
    for file in files:
        if file.version in recorded and recorded[file.version] != file.checksum:
            raise MigrationError(f"{file.name} was edited after it was applied: put the change into a new file")
        if file.version not in recorded and file.version < newest:
            raise MigrationError(f"{file.name} is new, but {newest:04} is already applied: give it the next number")
    found = tuple(file for file in files if file.version not in recorded)
    for file in found:
        file.check_marks()
    return found


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
