"""`pegboard make-migration`, `migrate` and `remove-plugin`, with plugins defined here and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import new_database
from tests.projects import Site, site

__all__ = ("site",)

BOOKS = """
    class Book(Schema):
        title = fields.String(required=True, validate=validate.Length(1, 200))
        isbn = fields.String(allow_none=True, validate=validate.Length(equal=13))
        year = fields.Integer(allow_none=True)
        tags = fields.List(fields.String(), load_default=list)

    class Books(TableResource):
        schema = Book
        verbs = "GET", "POST"
        unique = (Unique("isbn"),)
        indexes = ("year",)
        search_fields = ("title",)
"""
CATALOGUE = """
    SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation,
                     attgenerated, pg_get_expr(adbin, adrelid))
    FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
    WHERE attrelid = 'books.books'::regclass AND attnum > 0 AND NOT attisdropped
    UNION SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'books.books'::regclass AND contype <> 'n'
    UNION SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'books.books'::regclass
    ORDER BY 1
"""
INSERT = 'INSERT INTO books.books (id, "_version", {}) VALUES (gen_random_uuid(), 1, {})'


@pytest.fixture
def database(postgres: str, site: Site) -> str:
    """Create an empty database for the commands and return its URL."""
    return new_environment(postgres, site)


def new_environment(postgres: str, site: Site) -> str:
    url = asyncio.run(new_database(postgres))
    for name in [name for name in os.environ if name.startswith("PEGBOARD_")]:
        site.patch.delenv(name)
    site.patch.setenv("PEGBOARD_DATABASE_URL", url)
    site.patch.setenv("PEGBOARD_PLUGINS", "books")
    return url


@pytest.fixture
def books(site: Site) -> Path:
    package = site.install("pegboard-books", "books = pegboard_books:Books")
    site.write(package, BOOKS)
    return package


def run(url: str, *statements: str) -> list[Any]:
    """Run statements and return the first column of the rows of the last one."""

    async def execute() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            rows: list[Any] = []
            for statement in statements:
                rows = [row[0] for row in await connection.fetch(statement)]
            return rows
        finally:
            await connection.close()

    return asyncio.run(execute())


def files(package: Path) -> list[str]:
    return sorted(path.name for path in package.glob("migrations/*"))


def test_a_generated_table_is_taken_over_by_migrations(site: Site, database: str, books: Path, postgres: str) -> None:
    site.run("migrate")
    run(database, INSERT.format("title", "'Emma'"))
    assert "books: wrote" in site.run("make-migration", "books")
    assert files(books) == ["0001_books.sql"]
    assert "0001_books.sql is not applied yet" in site.expect_error("make-migration", "books")
    made = run(database, CATALOGUE)
    assert "books: applied 0001_books.sql" in site.run("migrate")
    assert run(database, CATALOGUE) == made
    assert site.run("make-migration", "books").startswith("books: nothing to do")
    assert files(books) == ["0001_books.sql"]

    changed = BOOKS.replace("year = fields.Integer(allow_none=True)", 'year = fields.String(load_default="")')
    changed = changed.replace("Length(equal=13)", "Length(max=10)").replace('search = ("title",)', "")
    changed = changed.replace('indexes = ("year",)', 'indexes = ("created_at",)')
    site.write(books, changed.replace("tags = ", "author = fields.String(required=True)\n        labels = "))
    output = site.run("make-migration", "books", "--title", "labels_and_more")
    assert "warning: the column tags is no longer declared: it keeps its values" in output
    text = (books / "migrations/0002_labels_and_more.sql").read_text()
    assert text.startswith("-- pegboard: unread\n-- This draft contains decisions")
    renamed = 'ALTER TABLE "books"."books" RENAME COLUMN "tags" TO "labels";'
    assert f"\n--   {renamed}\n" in text
    assert '\n--   ALTER TABLE "books"."books" DROP COLUMN "tags";\n' in text
    unread = "0002_labels_and_more.sql is a draft that nobody has read: edit it and delete line 1, which marks it as unread, or delete the file"
    assert site.expect_error("make-migration", "books") == unread
    # A file that its author has to complete fails, and leaves the table unchanged.
    read = text.replace("-- pegboard: unread\n", "")
    (books / "migrations/0002_labels_and_more.sql").write_text(read)
    refused = site.pegboard("migrate")
    assert refused.exit_code == 1
    assert 'books: 0002_labels_and_more.sql: column "author" of relation "books" contains null values' in refused.output
    added = re.search(r'ALTER TABLE "books"."books" ADD COLUMN "labels" [^;]+;', read)
    assert added
    edited = read.replace("NULL /* a value */", "'Jane Austen'").replace(added[0], renamed)
    (books / "migrations/0002_labels_and_more.sql").write_text(edited)
    assert "books: applied 0002_labels_and_more.sql" in site.run("migrate")
    assert run(database, "SELECT author || year FROM books.books") == ["Jane Austen"]
    assert site.run("make-migration", "books").startswith("books: nothing to do")

    by_files = run(database, CATALOGUE)
    again = new_environment(postgres, site)
    site.run("migrate")
    assert run(again, CATALOGUE) == by_files
    for path in books.glob("migrations/*"):
        path.unlink()
    by_schema = new_environment(postgres, site)
    site.run("migrate")
    assert run(by_schema, CATALOGUE) == by_files


def test_a_rejected_schema_change_becomes_a_migration(site: Site, database: str, books: Path) -> None:
    site.run("migrate")
    run(database, INSERT.format("title, year", "'Emma', 1815"))
    made = run(database, CATALOGUE)
    site.write(books, BOOKS.replace("year", "published"))
    refused = site.pegboard("migrate")
    assert refused.exit_code == 1
    assert "which pegboard make-migration books writes" in refused.output
    site.run("make-migration", "books")
    assert files(books) == ["0001_books.sql", "0002_change_books.sql"]
    change = books / "migrations/0002_change_books.sql"
    rename = re.search(r"ALTER TABLE \S+ RENAME COLUMN[^;]+;", change.read_text().replace("\n-- ", " "))
    assert rename
    change.write_text(f"{rename[0]}\nALTER INDEX books.books_year_index RENAME TO books_published_index;\n")
    site.run("migrate")
    assert run(database, "SELECT published FROM books.books") == [1815]
    assert site.run("make-migration", "books").startswith("books: nothing to do")
    # In an empty database, the first file creates the same table.
    change.unlink()
    site.write(books, BOOKS)
    run(database, "DROP SCHEMA books CASCADE")
    site.run("migrate")
    assert run(database, CATALOGUE) == made


def test_a_computed_column_is_left_to_the_author(site: Site, database: str, books: Path) -> None:
    site.run("make-migration", "books")
    site.write(books, BOOKS.replace("tags =", "size = fields.Integer(dump_only=True)\n        tags ="))
    size = "ALTER TABLE books ADD COLUMN size bigint GENERATED ALWAYS AS (char_length(title)) STORED;"
    (books / "migrations/0002_size.sql").write_text(size)
    site.run("migrate")
    assert site.run("make-migration", "books").startswith("books: nothing to do")


def test_resources_of_one_package_have_separate_migration_folders(site: Site, database: str, postgres: str) -> None:
    package = site.install("pegboard-shelf", "books = pegboard_shelf:Books\nloans = pegboard_shelf:Loans")
    loans = """
    class Loan(Schema):
        book = fields.Reference("books", required=True)

    class Loans(TableResource):
        schema = Loan
        verbs = "GET",
    """
    site.write(package, BOOKS + loans)
    site.pegboard("migrate", plugins="books,loans")
    site.run("make-migration", "loans")
    assert [path.name for path in package.glob("migrations/loans/*")] == ["0001_loans.sql"]
    assert "loans: applied 0001_loans.sql" in site.run("migrate")
    status = site.run("migrate", "--status").splitlines()
    assert [line for line in status if not line.startswith("pegboard")] == [
        "books\tschema\tapplied", "loans\tschema\tapplied", "loans\t0001_loans.sql\tapplied",
    ]  # fmt: skip
    (package / "migrations/0001_x.sql").write_text("SELECT 1")
    assert "belong to books, loans; move them" in site.expect_error("make-migration", "books")


def test_make_migration_refuses_impossible_requests(site: Site, database: str, books: Path) -> None:
    assert site.expect_error("make-migration", "shelves") == "no plugin shelves is installed"
    result = site.pegboard("make-migration", "books", "--title", "No Good")
    assert (result.exit_code, "use 1 to 60 characters of a-z" in result.output) == (2, True)
    site.write(books, "Books = 1 / 0\n")
    assert site.expect_error("make-migration", "books").startswith("books: pegboard_books:Books cannot be loaded")
    site.write(books, BOOKS)
    (books.parent / "pegboard_books-1.0.dist-info/RECORD").write_text("pegboard_books/__init__.py,,\n")
    assert (
        site.expect_error("make-migration", "books")
        == f"books: {books} is not the source; install the source with pip install -e"
    )
    (books.parent / "pegboard_books-1.0.dist-info/RECORD").write_text("")
    (books / "migrations").write_text("a file where the folder should be")
    assert "nothing was written" in site.expect_error("make-migration", "books")
    assert (books / "migrations").is_file()


def test_an_edited_migration_is_rejected_and_listed(site: Site, database: str, books: Path) -> None:
    site.run("make-migration", "books")
    site.run("migrate")
    with (books / "migrations/0001_books.sql").open("a") as file:
        file.write("-- a word more\n")
    edited = "0001_books.sql was edited after it was applied: put the change into a new file"
    assert site.expect_error("make-migration", "books") == edited
    for arguments, shown in (
        (("migrate",), f"books: {edited}"),
        (("migrate", "--status"), f"books\t-\tfailed\t{edited}"),
        (("migrate", "--dry-run"), f"-- books\n-- refused: {edited}"),
    ):
        result = site.pegboard(*arguments)
        assert (result.exit_code, shown in result.stdout) == (1, True), result.output


def test_dry_run_prints_pending_migrations_without_running_them(site: Site, database: str, books: Path) -> None:
    shown = site.run("migrate", "--dry-run")
    assert "-- pegboard\n-- 0001_clients.sql\n" in shown
    assert '-- books\nCREATE SCHEMA IF NOT EXISTS "books";\nCREATE TABLE "books"."books" (' in shown
    assert run(database, "SELECT nspname FROM pg_namespace WHERE nspname IN ('books', 'pegboard')") == []
    assert site.run("migrate", "--status").endswith("\nbooks\tschema\tpending\n")
    site.run("migrate")
    assert site.run("migrate", "--dry-run") == "-- nothing to do\n"
    assert site.run("migrate", "--status").endswith("\nbooks\tschema\tapplied\n")
    run(database, INSERT.format("title", "'Emma'"))
    site.write(books, BOOKS.replace("required=True, validate=validate.Length(1, 200)", "required=True"))
    site.run("migrate")
    site.write(books, BOOKS.replace("Length(1, 200)", "Length(1, 100)"))
    result = site.pegboard("migrate", "--dry-run")
    assert (result.exit_code, "-- refused: the column title is declared with length <= 100" in result.stdout) == (
        1,
        True,
    )
    assert site.pegboard("migrate", "--dry-run", "--status").exit_code == 2


def test_a_plugin_is_removed_with_its_records_after_confirmation(site: Site, database: str, books: Path) -> None:
    site.run("migrate")
    run(database, INSERT.format("title", "'Emma'"))
    response = "INSERT INTO pegboard.idempotency VALUES (gen_random_uuid(), '{}', 'k', '', 201, '{{}}', '')"
    run(database, response.format("/books"), response.format("/bookshelves"))
    silent = site.pegboard("remove-plugin", "books")
    assert (silent.exit_code, "there is no terminal for the confirmation" in silent.stderr) == (1, True)
    assert run(database, "SELECT title FROM books.books") == ["Emma"]
    output = site.run("remove-plugin", "books", "--yes")
    assert (
        "  books.books\t1 row\nbooks was removed.\nIt is still installed, so the next start creates its tables"
        in output
    )
    assert run(database, "SELECT path FROM pegboard.idempotency") == ["/bookshelves"]
    assert site.run("migrate", "--status").endswith("\nbooks\tschema\tpending\n")
    assert site.expect_error("remove-plugin", "books", "--yes") == "the plugin books has no tables in this database"
    assert (
        site.expect_error("remove-plugin", "pegboard", "--yes") == "pegboard is not a plugin: it belongs to the service"
    )
    assert "books: applied schema" in site.run("migrate")


@pytest.mark.usefixtures("books")
def test_removing_a_plugin_asks_for_confirmation_at_a_terminal(site: Site, database: str) -> None:
    site.run("migrate")
    run(database, INSERT.format("title", "'Emma'"))
    code, shown = at_a_terminal("remove-plugin", "books", response="n")
    assert "This cannot be undone. Remove it? [y/N]: " in shown
    assert (code, shown.splitlines()[-1]) == (1, "Aborted!")
    assert run(database, "SELECT title FROM books.books") == ["Emma"]
    code, shown = at_a_terminal("remove-plugin", "books", response="y")
    assert (code, "books was removed." in shown.splitlines()) == (0, True)
    assert run(database, "SELECT to_regclass('books.books')") == [None]


def at_a_terminal(*arguments: str, response: str) -> tuple[int, str]:
    """Run a command whose user types `response` when prompted; return its exit status and terminal output."""
    master, slave = os.openpty()
    command = [str(Path(sys.executable).parent / "pegboard"), *arguments]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        screen = b""
        # On Linux, reading from a terminal that all processes have closed is an error.
        with suppress(OSError):
            while more := os.read(master, 65_536):
                screen += more
                if screen.endswith(b"[y/N]: "):
                    os.write(master, f"{response}\n".encode())
    os.close(master)
    return process.returncode, screen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (
            "CREATE TABLE loans.loans (book uuid REFERENCES books.books)",
            "books was not removed: loans.loans refers to it; remove that first",
        ),
        (
            "CREATE VIEW loans.titles AS SELECT title FROM books.books",
            "books was not removed: that would also remove loans.titles.title",
        ),
    ],
)
def test_a_plugin_that_others_reference_is_not_removed(
    site: Site, database: str, books: Path, made: str, reason: str
) -> None:
    site.run("migrate")
    run(database, "CREATE SCHEMA loans", made)
    result = site.pegboard("remove-plugin", "books", "--yes")
    assert (result.exit_code, result.stderr) == (1, f"Error: {reason}\n")
    assert run(database, "SELECT title FROM books.books") == []


EDITIONS = """
    class Book(Schema):
        title = fields.String(required=True)
        isbn = fields.String(required=True)

    class Books(TableResource):
        schema = Book
        verbs = "GET", "POST"
"""


def delete_first_line(path: Path) -> None:
    """Do what an author in a hurry does with a draft."""
    path.write_text(path.read_text().partition("\n")[2])


def test_an_author_in_a_hurry_loses_nothing(site: Site, database: str, books: Path) -> None:
    site.write(books, EDITIONS)
    site.run("make-migration", "books")
    site.run("migrate")
    run(database, INSERT.format("title, isbn", "'Emma', '1'"))
    site.write(books, EDITIONS.replace("isbn", "number"))
    output = site.run("make-migration", "books")
    assert "Read this file and edit it, then delete its first line: until then it is not run." in output
    draft = books / "migrations/0002_change_books.sql"
    unread = "0002_change_books.sql is a draft that nobody has read: edit it and delete line 1, which marks it as unread, or delete the file"
    for arguments, shown in (
        (("migrate",), f"books: {unread}"),
        (("migrate", "--status"), f"books\t-\tfailed\t{unread}"),
        (("migrate", "--dry-run"), f"-- books\n-- refused: {unread}"),
        (("make-migration", "books", "--check"), f"books: {unread}"),
        (("check",), f"books: {unread}"),
    ):
        result = site.pegboard(*arguments)
        assert (result.exit_code, shown in result.output) == (1, True), (arguments, result.output)
    assert f"books\tpegboard-books 1.0\tfailed\t{unread}" in site.run("plugins")
    # Neither what has to be decided nor the values that would be lost are left to chance.
    delete_first_line(draft)
    refused = site.pegboard("migrate")
    assert "contains null values" in refused.output
    assert run(database, "SELECT isbn FROM books.books") == ["1"]
    draft.write_text(draft.read_text().replace("NULL /* a value */", "isbn"))
    site.run("migrate")
    assert run(database, "SELECT isbn || number FROM books.books") == ["11"]
    run(database, INSERT.format("title, number", "'Persuasion', '2'"))
    assert site.run("make-migration", "books").startswith("books: nothing to do")


def test_a_draft_never_drops_a_column(site: Site, database: str, books: Path) -> None:
    site.write(books, EDITIONS)
    site.run("make-migration", "books")
    site.run("migrate")
    run(database, INSERT.format("title, isbn", "'Emma', '1'"))
    site.write(books, EDITIONS.replace("        isbn = fields.String(required=True)\n", ""))
    site.run("make-migration", "books")
    text = (books / "migrations/0002_change_books.sql").read_text()
    assert text.startswith("-- pegboard: unread\n")
    active = [line for line in text.splitlines() if line and not line.startswith("--")]
    assert active == ['ALTER TABLE "books"."books" ALTER COLUMN "isbn" DROP NOT NULL;']
    assert '--   ALTER TABLE "books"."books" DROP COLUMN "isbn";' in text
    delete_first_line(books / "migrations/0002_change_books.sql")
    site.run("migrate")
    assert run(database, "SELECT isbn FROM books.books") == ["1"]


def test_a_purely_additive_draft_runs_as_it_is(site: Site, database: str, books: Path) -> None:
    site.write(books, EDITIONS)
    site.run("make-migration", "books")
    site.run("migrate")
    site.write(books, EDITIONS.replace("isbn =", "year = fields.Integer(allow_none=True)\n        isbn ="))
    assert "Read this file" not in site.run("make-migration", "books")
    assert "books: applied 0002_change_books.sql" in site.run("migrate")


def test_the_check_compares_files_and_tables_for_ci(site: Site, database: str, books: Path) -> None:
    matches = "books: nothing to do, the table matches its schema\n"
    assert site.run("make-migration", "books", "--check") == matches
    assert files(books) == []
    site.run("make-migration", "books")
    pending = site.pegboard("make-migration", "--check")
    assert (pending.exit_code, pending.output) == (
        1,
        "books: 0001_books.sql is not applied yet: run pegboard migrate first\n",
    )
    site.run("migrate")
    assert site.run("make-migration", "--check") == matches
    # A forgotten file is found by each command, and by the check.
    site.write(books, BOOKS.replace("tags =", "author = fields.String(allow_none=True)\n        tags ="))
    added = 'ALTER TABLE "books"."books" ADD COLUMN "author" text COLLATE "C"'
    missing = f"books.books does not match the schema: the column author is missing. Write a migration, which pegboard make-migration books writes: {added};"
    for arguments in (("migrate",), ("migrate", "--status"), ("migrate", "--dry-run"), ("check",), ("plugins",)):
        result = site.pegboard(*arguments)
        assert added in result.output, arguments
        assert result.exit_code == (0 if arguments == ("plugins",) else 1)
    result = site.pegboard("make-migration", "books", "--check")
    assert (result.exit_code, result.output) == (1, f"books: {missing}\n")
    site.write(books, BOOKS.replace('indexes = ("year",)', 'indexes = ("year", "title")'))
    result = site.pegboard("make-migration", "--check")
    advice = "books: the table can be served as it is; a draft would contain CREATE INDEX"
    assert (result.exit_code, result.output.startswith(advice)) == (0, True)
    assert files(books) == ["0001_books.sql"]
    site.write(books, "Books = 1 / 0\n")
    assert site.pegboard("make-migration", "--check").exit_code == 1
    assert site.pegboard("make-migration").exit_code == 2
    assert site.pegboard("make-migration", "books", "--check", "--title", "x").exit_code == 2


def test_a_change_that_was_rejected_is_found_by_the_check(site: Site, database: str, books: Path) -> None:
    site.run("migrate")
    run(database, INSERT.format("title", "'Emma'"))
    site.write(books, BOOKS.replace("Length(1, 200)", "Length(1, 100)"))
    result = site.pegboard("make-migration", "books", "--check")
    assert (result.exit_code, "the column title is declared with length <= 100" in result.output) == (1, True)


BY_HAND = """
CREATE TABLE shelves (id uuid PRIMARY KEY);
CREATE TABLE books (
    id uuid CONSTRAINT numbers PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    _version bigint NOT NULL,
    title varchar(200) NOT NULL CHECK (length(title) > 0),
    isbn text CONSTRAINT digits CHECK (char_length(isbn) = 13),
    "year" integer,
    author uuid CONSTRAINT writer REFERENCES books ON DELETE CASCADE,
    tags text[] DEFAULT '{}'
);
CREATE UNIQUE INDEX isbns ON books (isbn);
"""


def test_the_check_accepts_what_the_start_accepts(site: Site, database: str, books: Path) -> None:
    site.write(
        books,
        BOOKS.replace("tags =", 'author = fields.Reference("books", allow_none=True)\n        tags =').replace(
            'search_fields = ("title",)', ""
        ),
    )
    (books / "migrations").mkdir()
    (books / "migrations/0001_books.sql").write_text(BY_HAND)
    for arguments in (("migrate",), ("check",), ("migrate", "--status")):
        accepted = site.pegboard(*arguments)
        assert accepted.exit_code == 0, accepted.output
    result = site.pegboard("make-migration", "--check")
    assert (result.exit_code, "a draft would contain" in result.output) == (0, True), result.output
    run(database, "ALTER TABLE books.books ALTER isbn TYPE varchar(5)")
    refused = site.pegboard("make-migration", "--check")
    assert (refused.exit_code, "the column isbn is declared with length" in refused.output) == (1, True)
