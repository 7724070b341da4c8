"""`pegboard check`: one line for every error, and nothing is started."""

from __future__ import annotations

import os

import pytest

from tests.projects import Site, site

__all__ = ("site",)

VALID = """
    class Book(Schema):
        title = fields.String(required=True)

    class Books(TableResource):
        schema = Book
        verbs = "GET",
"""


@pytest.fixture(autouse=True)
def clear_environment(site: Site) -> None:
    for name in [name for name in os.environ if name.startswith("PEGBOARD_")]:
        site.patch.delenv(name)


def check_errors(site: Site, **settings: str) -> list[str]:
    result = site.pegboard("check", **settings)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return result.stderr.splitlines()


def test_valid_plugins_are_reported_as_valid(site: Site) -> None:
    site.write(site.install("pegboard-books", "books = pegboard_books:Books"), VALID)
    # The database is unreachable: none is needed.
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    result = site.pegboard("check", database_url=url, plugins="books", plugins_required="books")
    assert (result.exit_code, result.output) == (0, "no problems found: books\n")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import nothing",
            "books: pegboard_books:Books cannot be loaded: ModuleNotFoundError: No module named 'nothing'",
        ),
        (
            "def broken(:",
            "books: pegboard_books:Books cannot be loaded: SyntaxError: invalid syntax (__init__.py, line 2)",
        ),
        ("raise SystemExit(3)", "books: pegboard_books:Books cannot be loaded: SystemExit: 3"),
        (VALID.replace('"GET",', '"FETCH",'), "books: pegboard_books:Books: verbs contains 'FETCH'; use only"),
        (
            VALID
            + "\n        def __init__(self, *args):\n            super().__init__(*args)\n            self.nothing()\n",
            "books: it cannot be mounted: AttributeError: 'Books' object has no attribute 'nothing'",
        ),
        (
            VALID.replace("String(required=True)", 'Reference("shelves")'),
            "books: the field title refers to shelves, which is not available",
        ),
        (
            VALID.replace("String(required=True)", 'String(metadata={"description": object()})'),
            "books: its endpoints cannot be described: TypeError: ",
        ),
    ],
)
def test_a_plugin_with_an_error_is_reported_by_name(site: Site, source: str, message: str) -> None:
    site.write(site.install("pegboard-books", "books = pegboard_books:Books"), source)
    [line] = check_errors(site)
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("0002_first.sql", "0002_first.sql: the number 0002 is out of order: use 0001"),
        ("1_first.sql", "1_first.sql is not a valid name for a migration: write it as 0001_what_it_does.sql"),
    ],
)
def test_invalid_sql_files_are_reported(site: Site, file: str, message: str) -> None:
    package = site.install("pegboard-books", "books = pegboard_books:Books")
    site.write(package, VALID)
    (package / "migrations").mkdir()
    (package / "migrations" / file).write_text("SELECT 1")
    assert check_errors(site) == [f"books: {message}"]


def test_every_error_is_reported_in_its_own_line(site: Site) -> None:
    site.write(site.install("pegboard-books", "books = pegboard_books:Books"), "Books = 1")
    site.write(site.install("pegboard-other", "contacts = pegboard_other:Books\ndocs = pegboard_other:Books"), VALID)
    assert check_errors(site, plugins="books,contacts,docs,gone,shelves", plugins_required="contacts") == [
        "books: pegboard_books:Books: an entry point of pegboard.resources must name a subclass of pegboard.Resource",
        *(
            "contacts: 2 distributions claim the name 'contacts'; uninstall all but one, or mount the new one by "
            f"PEGBOARD_MOUNTS={distribution}/contacts=OTHER_NAME"
            for distribution in ("pegboard-contacts", "pegboard-other")
        ),
        "docs: the name 'docs' is not valid for a resource: it is reserved, or not 1 to 40 characters of a-z, 0-9, - and _",
        "gone: PEGBOARD_PLUGINS names it, but it is not installed",
        "shelves: PEGBOARD_PLUGINS names it, but it is not installed",
        "contacts: PEGBOARD_PLUGINS_REQUIRED names it, but it is in conflict",
    ]


def test_a_missing_required_plugin_is_an_error(site: Site) -> None:
    assert check_errors(site, plugins_required="contacts,gone") == [
        "gone: PEGBOARD_PLUGINS_REQUIRED names it, but it is not installed"
    ]


def test_an_invalid_setting_is_an_error(site: Site) -> None:
    assert "PEGBOARD_PORT" in site.pegboard("check", port="many").stderr
    assert site.pegboard("check", port="many").exit_code == 1


def test_a_missing_required_setting_of_a_plugin_is_an_error(site: Site) -> None:
    source = (
        VALID
        + """
        class settings_schema(Schema):
            shelves = fields.Integer(required=True)
    """
    )
    site.write(site.install("pegboard-books", "books = pegboard_books:Books"), source)
    assert check_errors(site) == ["books: PEGBOARD_BOOKS_SHELVES is not set: Missing data for required field"]
    assert site.pegboard("check", plugins="books", books_shelves="3").output == "no problems found: books\n"


def test_a_middleware_that_cannot_be_loaded_is_an_error(site: Site) -> None:
    site.write(site.install("pegboard-books", "books = pegboard_books:Books"), VALID)
    assert check_errors(site, plugins="books,gone", middlewares="tenant") == [
        "gone: PEGBOARD_PLUGINS names it, but it is not installed",
        "PEGBOARD_MIDDLEWARES names tenant, which no installed package has in pegboard.middlewares.",
    ]
