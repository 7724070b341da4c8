"""The documentation: its examples are run, and its lists are complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

import pegboard
from pegboard import errors
from pegboard.cli import main
from pegboard.settings import SETTINGS
from pegboard.telemetry.families import FAMILIES
from pegboard.testing.service import Loop, new_database

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
# The measurements of these pages need libraries that are not installed.
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))
PARTS = ["Alternatives", "Measured", "What would change this"]
PASSWORD = "a password for the pages"
ADDRESS = "http://localhost:8080"
EXTRAS = {f"pegboard[{extra}]" for extra in ("embedded", "otel", "testing")}
OURS = EXTRAS | {f"pegboard-{folder.name}" for folder in ROOT.glob("plugins/*")}
OTHERS = {"build"}
"""The packages of others that a page may install."""

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"

FENCE = re.compile(r"(?:^`([^`\n]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Values that differ between runs. Those of the first kind must be consistent within a page.
NAMED = re.compile(
    r'[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|ETag: ".+"|If-Match: "[0-9a-f]+"|after=[\w-]+|before=[\w-]+'
)
ELISION = "…"
"""Marks an omission in a response."""
VARYING = (
    (re.compile(r'("(?:created_at|updated_at)":)"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"'), r'\1"..."'),
    (re.compile(r"^((?:Date|Last-Modified|X-Request-Id): ).+$", re.MULTILINE), r"\1..."),
    (re.compile(r'("version":|pegboard-\w+ )"?\d+\.\d+\.\d+"?'), r"\1..."),
)


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its kind, the file that it shows (if any), its text and its location."""

    kind: str
    file: str
    text: str
    line: int


@dataclass
class Session:
    """The state of one page: a folder, the service of its reader, and the names in its responses.

    Without the URL of a `database` the service runs an embedded PostgreSQL in the folder.
    """

    folder: Path
    database: str | None = None
    port: int = 0
    process: subprocess.Popen[str] | None = None
    names: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
        return others | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "site"),
            "PEGBOARD_DATA_DIR": str(self.folder / "data"),
            "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
            "PASSWORD": PASSWORD,
            # By default pytest's parent folder is inaccessible to other users, such as the one that PostgreSQL runs as under root.
            "PYTEST_DEBUG_TEMPROOT": str(self.folder),
            # No page uses https, and loading the CA certificates takes a fifth of the start-up time of a process.
            "SSL_CERT_FILE": os.devnull,
            **({"PEGBOARD_DATABASE_URL": self.database} if self.database else {}),
        }

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [str(BIN / "pegboard"), "serve", "--port", "0"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert "serves on" in line, (self.folder / "log").read_text()
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self) -> None:
        if self.process is not None:
            with self.process:
                self.process.terminate()
            assert self.process.returncode == 0
            self.process = None

    def install(self, project: str, *, editable: bool) -> None:
        """Install a project of the page like pip, so that it is served from the next start."""
        source = Path(project).parent.parent if project.endswith(".whl") else Path(project)
        declared = tomllib.loads((self.folder / source / "pyproject.toml").read_text())
        metadata = declared["project"]
        self.uninstall(metadata["name"])
        self.removed.discard(metadata["name"])
        # Python reads .pth files only in site folders.
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text("import os, site\nsite.addsitedir(os.path.dirname(__file__))\n")
        wheel = self.folder / project
        if not project.endswith(".whl"):
            # pip itself takes three times as long. The network is not used: all requirements are installed.
            assert declared["build-system"]["build-backend"] == "setuptools.build_meta"
            command = [sys.executable, "-c", BUILD, "build_editable" if editable else "build_wheel", str(site)]
            done = subprocess.run(command, cwd=self.folder / source, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            wheel = site / done.stdout.splitlines()[-1]
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)
        listed = json.loads(self.run(f'curl -u "admin:$PASSWORD" {ADDRESS}/plugins'))["items"]
        states = {plugin["name"]: (plugin["state"], plugin["fault"]) for plugin in listed}
        for name in metadata["entry-points"]["pegboard.resources"]:
            assert states[name] == ("ready", None)

    def uninstall(self, distribution: str) -> None:
        """Uninstall a distribution; pip cannot uninstall from a separate folder."""
        self.stop()
        site, name = self.folder / "site", distribution.replace("-", "_")
        for info in site.glob(f"{name}-*.dist-info"):
            for first in {
                line.partition(",")[0].partition("/")[0] for line in (info / "RECORD").read_text().splitlines()
            }:
                path = site / first
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for pointer in site.glob(f"__editable__*{name}*"):
            pointer.unlink(missing_ok=True)
        self.removed.add(distribution)

    def run_module(self, *arguments: str) -> None:
        """Run a Python module, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, command: str) -> str:
        if self.process is None:
            self.start()
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
        """Compare a response with the one on the page, and remember corresponding names."""
        for shown_name, real_name in zip(NAMED.findall(shown), NAMED.findall(real), strict=False):
            expected = self.names.setdefault(shown_name, real_name)
            assert expected == real_name, f"{command}: {shown_name} was {expected} before"
            if shown_name.startswith("ETag"):
                self.names["If-Match" + shown_name[4:]] = "If-Match" + real_name[4:]
        for shown_name, real_name in self.names.items():
            shown = shown.replace(shown_name, real_name)
        parts = map(re.escape, normalize(shown).split(ELISION))
        assert re.fullmatch(".*".join(parts), normalize(real), re.DOTALL), f"{command}: {real}"


def normalize(text: str) -> str:
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return text


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text()
    blocks = [
        Snippet(match[2], match[1] or "", match[3], text.count("\n", 0, match.start(2)) + 1)
        for match in FENCE.finditer(text)
    ]
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(blocks), "an invalid block"
    assert not re.search(r"\n\n {4}", FENCE.sub("", text)), "an indented block, which is not run"
    return blocks


def commands(snippet: Snippet) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with its output."""
    lines = snippet.text.splitlines()
    assert lines[0].startswith("$ "), f"line {snippet.line}: no command"
    for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        command, output = part.rstrip("\n"), ""
        match = re.match(r"((?:.*\\\n)*.*)(?:\n|$)", command)
        assert match
        command, output = match[1], command[match.end() :]
        yield command, output.strip("\n")


def programs(command: str) -> Iterator[list[str]]:
    """Yield the words of each program of a pipeline, without preceding variable assignments."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if word in ("|", "&&", ";", "&"):
            yield words
            words = []
        else:
            words.append(word)


def split_assignments(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split the variable assignments from a program."""
    assignments: dict[str, str] = {}
    rest = words[1:] if words[0] == "export" else words
    while rest and re.match(r"[A-Z_]+=", rest[0]):
        name, _, value = rest[0].partition("=")
        assignments[name], rest = value, rest[1:]
    return assignments, rest


def check_settings(assignments: dict[str, str]) -> None:
    """Check each variable of the service against the existing settings."""
    settings = {setting.variable: setting for setting in SETTINGS}
    files = {setting.file_variable for setting in SETTINGS}
    for name, value in assignments.items():
        if name.startswith("PEGBOARD_") and name not in files:
            # The certificate of the examples is not on this machine.
            settings[name].parse(value.replace("/etc/ssl/db-ca.crt", "system"))


def check_make(words: list[str], _: Session) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(words) == 2
    assert words[1] in targets


def check_pip(words: list[str], session: Session) -> None:
    assert words[1] in ("install", "uninstall")
    for name in [word for word in words[2:] if word not in ("-e", "--upgrade", "--yes")]:
        project = Path(name).name
        if words[1] == "uninstall":
            session.uninstall(name)
        elif name.endswith(".whl"):
            session.install(name, editable=False)
        elif (session.folder / project).is_dir():
            session.install(f"./{project}", editable="-e" in words)
        else:
            assert (ROOT / name.partition("[")[0] / "pyproject.toml").is_file() or name in OURS | OTHERS, name


def check_pytest(words: list[str], session: Session) -> None:
    """Run the tests of a project of the page, which must pass."""
    [project] = words[1:]
    session.run_module("pytest", "-q", "-p", "no:cacheprovider", project)


def check_python(words: list[str], session: Session) -> None:
    """Build a project of the page without network access."""
    assert words[1:3] == ["-m", "build"]
    session.run_module("build", "--wheel", "--no-isolation", *words[3:])


def check_serve(words: list[str], session: Session) -> None:
    """Check the options, and restart the service for the following requests."""
    assert words[1] == "serve"
    session.stop()
    main.commands["serve"].make_context("serve", words[2:])


def check_docker(words: list[str], _: Session) -> None:
    """Check the services, plugins and settings named by a container command, which no test runs."""
    compose = (ROOT / "docker-compose.yml").read_text()
    services = re.findall(r"^  (\w+):$", compose, re.MULTILINE)
    if words[2] == "--profile":
        assert f"profiles: [{words[3]}]" in compose
        del words[2:4]
    if words[1] == "compose":
        assert words[2] in ("up", "down", "exec", "logs", "ps", "restart")
        named = [word for word in words[3:] if not word.startswith("-")]
        assert not named or named[0] in services, named[0]
    else:
        assert words[1] in ("build", "run")
    for word in words[2:]:
        if word.startswith("PLUGINS="):
            assert all((ROOT / "plugins" / name / "pyproject.toml").is_file() for name in word[8:].split())
        if word.startswith("PEGBOARD_"):
            check_settings(dict([word.split("=", 1)]))


def check_script(words: list[str], _: Session) -> None:
    assert os.access(ROOT / words[0], os.X_OK)


CHECKS: dict[str, Callable[[list[str], Session], None]] = {
    "docker": check_docker,
    "make": check_make,
    "pip": check_pip,
    "pytest": check_pytest,
    "python": check_python,
    "pegboard": check_serve,
    "rolling-restart": check_script,
}


def is_run_unchanged(words: list[str], session: Session) -> bool:
    """Return whether a program is to be run unchanged; otherwise, run or check it in another way."""
    program = Path(words[0]).name
    if program in ("curl", "echo") or (program == "pegboard" and words[1] != "serve"):
        return True
    assert program in CHECKS, f"a page shows the command {program}, which no test can run"
    CHECKS[program](words, session)
    return False


def run_command(command: str, session: Session) -> str | None:
    """Run a command and return its output, or None if it is run in another way."""
    run = True
    for words in programs(command):
        assignments, rest = split_assignments(words)
        check_settings(assignments)
        run = bool(rest) and is_run_unchanged(rest, session) and run
    return session.run(command) if run else None


def run_console(snippet: Snippet, session: Session) -> None:
    for command, shown in commands(snippet):
        real = run_command(command, session)
        if real is None:
            assert not shown, f"{command}: its output is shown, but not checked"
        else:
            session.compare(command, shown, real)


def write_file(snippet: Snippet, session: Session) -> None:
    """Write a file of a project, which the page installs later."""
    assert snippet.file, f"line {snippet.line}: a file without a name"
    path = session.folder / snippet.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(snippet.text)


def check_json(snippet: Snippet, _: Session) -> None:
    json.loads(snippet.text)


KINDS: dict[str, Callable[[Snippet, Session], None]] = {
    "console": run_console,
    "python": write_file,
    "toml": write_file,
    "sql": write_file,
    "dockerfile": write_file,
    "yaml": write_file,
    "json": check_json,
}
# These pages show the behavior of the embedded PostgreSQL; the others can use one that is already running.
EMBEDDED = ("README.md", "command-line.md")
# The examples of these pages have their own tests.
ELSEWHERE = {
    "backup-and-upgrade.md": "test_backup",
    "changing-a-plugin.md": "test_changing",
    "embedding.md": "test_embedding",
}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: str(page.relative_to(ROOT))
)
def test_examples_of_a_page_work(page: Path, tmp_path: Path, postgres: str, pegboard_loop: Loop) -> None:
    session = Session(tmp_path, None if page.name in EMBEDDED else pegboard_loop.run(new_database(postgres)))
    try:
        for snippet in snippets(page):
            assert snippet.kind in KINDS, f"line {snippet.line}: no test can run {snippet.kind!r}"
            KINDS[snippet.kind](snippet, session)
    finally:
        session.stop()
    projects = {path.parent.name for path in tmp_path.glob("*/pyproject.toml")}
    installed = {path.name.partition("-")[0].replace("_", "-") for path in tmp_path.glob("site/*.dist-info")}
    # A project generated by a command may be shown only; one written by the page is to be used.
    written = {Path(snippet.file).parts[0] for snippet in snippets(page) if snippet.file.endswith("/pyproject.toml")}
    assert written - session.removed <= installed <= projects


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_are_valid(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            file, _, heading = target.partition("#")
            target_page = (page.parent / file).resolve()
            assert target_page.exists(), target
            assert not heading or heading in headings(target_page), target


def test_every_decision_is_listed_and_has_its_sections() -> None:
    index, *pages = DECISIONS
    listed = re.findall(r"^\| \[.+?\]\(([\w-]+\.md)\) \| .+ \|$", index.read_text(), re.MULTILINE)
    assert sorted(listed) == [page.name for page in pages]
    for page in pages:
        assert "**Choice.**" in page.read_text()
        assert re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE) == PARTS


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in titles}


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a page in docs."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]


def test_exactly_the_existing_settings_are_documented() -> None:
    listed = [row for row in rows("configuration.md") if row[0].startswith("`PEGBOARD_")]
    assert listed == [
        [f"`{setting.variable}`", f"`{setting.default}`" if setting.default else "-", setting.description]
        for setting in SETTINGS
    ]


def test_exactly_the_existing_error_codes_are_documented() -> None:
    listed = [row for row in rows("http.md") if re.fullmatch(r"\d{5}", row[0])]
    assert listed == [[str(code.code), str(code.status), code.message] for code in errors.CATALOGUE]


def test_exactly_the_existing_metrics_are_documented() -> None:
    listed = [row for row in rows("observability.md") if row[0].startswith("`pegboard_")]
    assert listed == [
        [f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels) or "-", family.meaning]
        for family in FAMILIES
    ]


def leaf_commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaf_commands(inner, f"{path} {name}")
    else:
        yield path, command


def test_exactly_the_existing_commands_are_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    listed = dict(re.findall(r"^## `(pegboard .+?)`\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    expected = {}
    for path, command in leaf_commands(main, "pegboard"):
        pieces = command.collect_usage_pieces(click.Context(command))
        expected[" ".join((path, *pieces))] = {option for option in command.params if isinstance(option, click.Option)}
    assert listed.keys() == expected.keys()
    for heading, options in expected.items():
        shown = re.findall(r"^\| `(--[a-z-]+)` \|", listed[heading], re.MULTILINE)
        assert shown == [option.opts[0] for option in sorted(options, key=lambda option: str(option.name))]


def test_exactly_the_existing_modules_are_documented() -> None:
    package = Path(pegboard.__file__).parent
    listed = [row[0].strip("`") for row in rows("architecture.md") if row[0].startswith("`")]
    modules = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py") if path.stem != "__init__")
    assert sorted(listed) == sorted(".".join(module.parts) for module in modules)
