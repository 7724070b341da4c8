"""The pages for people: what they show is run, and what they list is all there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

import pegboard
from pegboard import errors
from pegboard.cli import main
from pegboard.settings import SETTINGS

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
PASSWORD = "a password for the pages"
ADDRESS = "http://localhost:8080"

FENCE = re.compile(r"(?:^`([^`\n]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from one run to the next. The first kind has to differ in the same way all over a page.
NAMED = re.compile(
    r'[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{22}|ETag: ".+"|If-Match: "[0-9a-f]+"|after=[\w-]+|before=[\w-]+'
)
PASSING = (
    (re.compile(r'("(?:created_at|updated_at)":)"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"'), r'\1"..."'),
    (re.compile(r"^((?:Date|Last-Modified|X-Request-Id): ).+$", re.MULTILINE), r"\1..."),
    (re.compile(r'("version":|pegboard-\w+ )"?\d+\.\d+\.\d+"?'), r"\1..."),
)


@dataclass(frozen=True)
class Snippet:
    """One fenced block: its kind, the file that it is (if any), its text and its place."""

    kind: str
    file: str
    text: str
    line: int


@dataclass
class Session:
    """What the commands of one page have to do with: a service, and what its answers named."""

    folder: Path
    environment: dict[str, str]
    port: int = 0
    names: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> str:
        for shown, real in self.names.items():
            command = command.replace(shown, real)
        command = command.replace(ADDRESS, f"http://127.0.0.1:{self.port}").replace("curl ", "curl -s ")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.replace("\r", "").strip("\n")

    def compare(self, command: str, shown: str, real: str) -> None:
        """Hold an answer against the one that the page shows, and remember what is named otherwise."""
        for ours, theirs in zip(NAMED.findall(shown), NAMED.findall(real), strict=False):
            known = self.names.setdefault(ours, theirs)
            assert known == theirs, f"{command}: {ours} was {known} before"
            if ours.startswith("ETag"):
                self.names["If-Match" + ours[4:]] = "If-Match" + theirs[4:]
        for ours, theirs in self.names.items():
            shown = shown.replace(ours, theirs)
        assert plain(real) == plain(shown), command


def plain(text: str) -> str:
    for pattern, replacement in PASSING:
        text = pattern.sub(replacement, text)
    return text


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text()
    found = [
        Snippet(match[2], match[1] or "", match[3], text.count("\n", 0, match.start(2)) + 1)
        for match in FENCE.finditer(text)
    ]
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(found), "a block that cannot be read"
    assert not re.search(r"\n\n {4}", FENCE.sub("", text)), "an indented block, which cannot be run"
    return found


def commands(snippet: Snippet) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output that is shown."""
    lines = snippet.text.splitlines()
    assert lines[0].startswith("$ "), f"line {snippet.line}: no command"
    for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        command, output = part.rstrip("\n"), ""
        match = re.match(r"((?:.*\\\n)*.*)(?:\n|$)", command)
        assert match
        command, output = match[1], command[match.end() :]
        yield command, output.strip("\n")


def programs(command: str) -> Iterator[list[str]]:
    """Yield the words of each program of a pipeline, without the variables set before it."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if word in ("|", "&&", ";", "&"):
            yield words
            words = []
        else:
            words.append(word)


def variables(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split off the assignments before a program."""
    given: dict[str, str] = {}
    rest = words[1:] if words[0] == "export" else words
    while rest and re.match(r"[A-Z_]+=", rest[0]):
        name, _, value = rest[0].partition("=")
        given[name], rest = value, rest[1:]
    return given, rest


def check_settings(given: dict[str, str]) -> None:
    """Hold each variable for the service against what there is to set."""
    known = {setting.variable: setting for setting in SETTINGS}
    files = {setting.file_variable for setting in SETTINGS}
    for name, value in given.items():
        if name.startswith("PEGBOARD_") and name not in files:
            known[name].parse(value)


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(words) == 2
    assert words[1] in targets


def check_pip(words: list[str]) -> None:
    assert words[1] == "install"
    assert not [word for word in words[2:] if word.startswith("-")]


def check_serve(words: list[str]) -> None:
    assert words[1] == "serve"
    main.commands["serve"].make_context("serve", words[2:])


def runs(words: list[str]) -> bool:
    """Tell whether a program is run as it stands; raise for one that is wrong, or not known here."""
    program = Path(words[0]).name
    if program in ("curl", "echo") or (program == "pegboard" and words[1] != "serve"):
        return True
    checks: dict[str, Callable[[list[str]], None]] = {"make": check_make, "pip": check_pip, "pegboard": check_serve}
    assert program in checks, f"a page shows the command {program}, and no test knows how to run it"
    checks[program](words)
    return False


def run_console(snippet: Snippet, session: Session) -> None:
    for command, output in commands(snippet):
        run = True
        for words in programs(command):
            given, rest = variables(words)
            check_settings(given)
            run = run and bool(rest) and runs(rest)
        if run:
            session.compare(command, output, session.run(command))


def check_file(snippet: Snippet, session: Session) -> None:
    """See that a file is one of a project that was installed, and holds what is shown."""
    assert (session.folder / snippet.file).read_text() == snippet.text


def check_json(snippet: Snippet, _: Session) -> None:
    json.loads(snippet.text)


KINDS: dict[str, Callable[[Snippet, Session], None]] = {
    "console": run_console,
    "python": check_file,
    "toml": check_file,
    "sql": check_file,
    "json": check_json,
}


def install(page: list[Snippet], folder: Path) -> list[str]:
    """Write the files of a page, install each project among them as a user would, and return their entry points."""
    for snippet in page:
        if snippet.file:
            (folder / snippet.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / snippet.file).write_text(snippet.text)
    names = []
    for project in sorted(folder.glob("*/pyproject.toml")):
        metadata = tomllib.loads(project.read_text())["project"]
        names += metadata["entry-points"]["pegboard.resources"]
        # The network is left out of it: what the project needs is here.
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", folder / "site", project.parent]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return names


def start(session: Session) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [BIN / "pegboard", "serve", "--port", "0"],
        env=session.environment,
        stdout=subprocess.PIPE,
        stderr=(session.folder / "log").open("wb"),
        text=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    assert "serves on" in line, (session.folder / "log").read_text()
    session.port = int(line.rsplit(":", 1)[1])
    return process


def session_in(folder: Path) -> Session:
    plain_environment = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    environment = plain_environment | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "site"),
        "PEGBOARD_DATA_DIR": str(folder / "data"),
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "PASSWORD": PASSWORD,
    }
    return Session(folder, environment)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    found = snippets(page)
    unknown = {snippet.kind for snippet in found} - KINDS.keys()
    assert not unknown, f"blocks of a kind that no test knows how to run: {unknown}"
    assert all(snippet.file for snippet in found if KINDS[snippet.kind] is check_file), "a file without its name"
    session = session_in(tmp_path)
    names = install(found, tmp_path)
    with start(session) as process:
        try:
            listed = session.run(f'curl -u "admin:$PASSWORD" {ADDRESS}/plugins')
            states = {plugin["name"]: plugin for plugin in json.loads(listed)["items"]}
            assert [states[name]["state"] for name in names] == ["ready"] * len(names), states
            for snippet in found:
                KINDS[snippet.kind](snippet, session)
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            file, _, heading = target.partition("#")
            there = (page.parent / file).resolve()
            assert there.exists(), target
            assert not heading or heading in headings(there), target


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def rows(page: str) -> list[list[str]]:
    """Return the cells of every row of the tables of a page in docs."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]


def test_every_setting_is_documented_and_no_other() -> None:
    listed = [row for row in rows("configuration.md") if row[0].startswith("`PEGBOARD_")]
    assert listed == [
        [f"`{setting.variable}`", f"`{setting.default}`" if setting.default else "-", setting.description]
        for setting in SETTINGS
    ]


def test_every_error_code_is_documented_and_no_other() -> None:
    listed = [row for row in rows("http.md") if re.fullmatch(r"\d{5}", row[0])]
    assert listed == [[str(code.code), str(code.status), code.message] for code in errors.CATALOGUE]


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, f"{path} {name}")
    else:
        yield path, command


def test_every_command_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    listed = dict(re.findall(r"^## `(pegboard .+?)`\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    expected = {}
    for path, command in leaves(main, "pegboard"):
        pieces = command.collect_usage_pieces(click.Context(command))
        expected[" ".join((path, *pieces))] = {option for option in command.params if isinstance(option, click.Option)}
    assert listed.keys() == expected.keys()
    for heading, options in expected.items():
        shown = re.findall(r"^\| `(--[a-z-]+)` \|", listed[heading], re.MULTILINE)
        assert shown == [option.opts[0] for option in sorted(options, key=lambda option: str(option.name))]


def test_every_module_is_documented_and_no_other() -> None:
    package = Path(pegboard.__file__).parent
    listed = [row[0].strip("`") for row in rows("architecture.md") if row[0].startswith("`")]
    assert sorted(listed) == sorted(path.stem for path in package.glob("*.py") if path.stem != "__init__")
