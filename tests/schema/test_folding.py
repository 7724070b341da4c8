# ruff: noqa: RUF001 - characters that look alike are the subject.
"""The rule of case, accents and words: the same in PostgreSQL and in memory, for every character."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from pegboard.migrations.runner import migrate
from pegboard.schema import folding
from pegboard.schema.folding import FOLD, UNACCENT, WORDS, fold, unaccent, words

CHARACTERS = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
SPECIAL = [character for character in CHARACTERS if unaccent(character) != character]
BATCH = 50_000


@pytest.fixture(scope="module")
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate(database_url, [])
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def texts(seed: int) -> list[str]:
    """Return random texts: ASCII that PostgreSQL's parser of words treats specially, and any characters."""
    source = random.Random(seed)
    ascii_only = [*map(chr, range(1, 128)), *"abcde0123456" * 8, *" .-/:@<>&#;+~" * 4]
    pools = (CHARACTERS, SPECIAL, ascii_only, " ")
    return [
        *("".join(source.choices(ascii_only, k=source.randint(1, 40))) for _ in range(20_000)),
        *("".join(source.choice(source.choice(pools)) for _ in range(source.randint(1, 200))) for _ in range(1_000)),
        "".join(source.choices(SPECIAL, k=5_000)),
    ]


async def in_sql(connection: asyncpg.Connection, function: str, values: list[str]) -> list[Any]:
    query = f"SELECT array_agg({function}(value)::text ORDER BY number) FROM unnest($1::text[]) WITH ORDINALITY AS v(value, number)"
    return [
        r
        for start in range(0, len(values), BATCH)
        for r in await connection.fetchval(query, values[start : start + BATCH])
    ]


def vector(text: str) -> str:
    positions: dict[str, list[str]] = {}
    for number, word in enumerate(words(text), 1):
        positions.setdefault(word, []).append(str(number))
    return " ".join(f"'{word}':{','.join(numbers)}" for word, numbers in sorted(positions.items(), key=_as_postgres))


def _as_postgres(entry: tuple[str, Any]) -> bytes:
    return entry[0].encode()


@pytest.mark.long
@pytest.mark.parametrize(("function", "in_memory"), [(FOLD, fold), (UNACCENT, unaccent), (WORDS, vector)])
async def test_postgresql_and_memory_agree_about_every_character_and_text(
    connection: asyncpg.Connection, function: str, in_memory: Callable[[str], str]
) -> None:
    values = [*CHARACTERS, *texts(1)]
    found = await in_sql(connection, function, values)
    differing = [(v, f, in_memory(v)) for v, f in zip(values, found, strict=True) if f != in_memory(v)]
    assert not differing, differing[:5]


async def test_the_mapping_of_case_is_the_simple_case_folding_of_unicode(connection: asyncpg.Connection) -> None:
    # PostgreSQL 18 has the tables of Unicode 16, and folds each character to one with this collation.
    assert await connection.fetchval("SELECT unicode_version()") == "16.0"
    assert await in_sql(connection, "casefold", [""]) == [""]
    query = 'SELECT array_agg(casefold(value COLLATE "pg_c_utf8") ORDER BY number) FROM unnest($1::text[]) WITH ORDINALITY v(value, number)'
    assert await connection.fetchval(query, CHARACTERS) == [fold(character) for character in CHARACTERS]


def test_folding_twice_changes_nothing() -> None:
    for character in CHARACTERS:
        assert fold(fold(character)) == fold(character)
        assert unaccent(unaccent(character)) == unaccent(fold(character)) == unaccent(character)


def test_composed_and_decomposed_accents_are_removed_alike() -> None:
    marked = [c for c in SPECIAL if unaccent(c) != fold(c) and unicodedata.is_normalized("NFC", c)]
    assert len(marked) > 1_000
    for character in marked:
        assert unaccent(unicodedata.normalize("NFD", character)) == unaccent(character), character


@pytest.mark.parametrize(
    ("text", "folded", "unaccented"),
    [
        ("MÜLLER", "müller", "muller"),
        ("INFO ısı İstanbul", "info ısı İstanbul", "info isi istanbul"),
        ("ΣΊΣΥΦΟΣ Σίσυφος", "σίσυφοσ σίσυφοσ", "σισυφοσ σισυφοσ"),
        ("STRASSE Straße STRAẞE", "strasse straße straße", "strasse strasse strasse"),
        ("\u212a \u212b \u2126", "k å ω", "k a ω"),
        ("ſ µ", "s μ", "s μ"),
        ("ﬁ Ǆ", "ﬁ ǆ", "fi dz"),
        ("Łódź Ørsted Æsir Œuvre Þór", "łódź ørsted æsir œuvre þór", "lodz orsted aesir oeuvre thor"),
        ("Nguyễn Văn", "nguyễn văn", "nguyen van"),
        ("José", "josé", "jose"),
        ("Ёлка Й", "ёлка й", "елка и"),
        ("ＡＢＣ１２", "ａｂｃ１２", "abc12"),
        ("がぎ パ", "がぎ パ", "かき ハ"),
        ("مُحَمَّد", "مُحَمَّد", "محمد"),
        ("Ⓐ Ⅷ", "ⓐ ⅷ", "ⓐ ⅷ"),
        ("𐐀", "𐐨", "𐐨"),
        ("👍🏽 %_\\'", "👍🏽 %_\\'", "👍🏽 %_\\'"),
    ],
)
def test_case_and_accents_of(text: str, folded: str, unaccented: str) -> None:
    assert (fold(text), unaccent(text)) == (folded, unaccented)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" -!? \n", []),
        ("Jean-Luc O'Brien", ["jean", "luc", "o", "brien"]),
        ("don’t l'été", ["don", "t", "l", "ete"]),
        ("ada.lovelace+x@example.org", ["ada", "lovelace", "x", "example", "org"]),
        ("https://example.org/a_b?c=1&d", ["https", "example", "org", "a", "b", "c", "1", "d"]),
        ("<b>bold</b> &amp; 3.14 -5 1e5a 0x1F", ["b", "bold", "b", "amp", "3", "14", "5", "1e5a", "0x1f"]),
        ("cafe\u0301 co\u00adoperate", ["cafe", "cooperate"]),
        ("東京タワー１号", ["東", "京", "タ", "ワ", "ー", "1", "号"]),
        ("한국어 हिन्दी ไทย", ["한국어", "हिन्दी", "ไทย"]),
        ("a😀b 👍🏽 €5", ["a", "b", "5"]),
        ("x" * 501 + " y", ["x" * 500, "y"]),
    ],
)
def test_words_of(text: str, expected: list[str]) -> None:
    assert words(text) == expected


async def test_the_longest_texts_have_words(connection: asyncpg.Connection) -> None:
    ideographs = [chr(code) for code in (*range(0x4E00, 0xA000), *range(0x20000, 0x2A6E0), *range(0x2A700, 0x2EBE1))]
    for text, last in (
        ("".join(ideographs), "'\u4e00'"),
        ("ﬃ" * 100_000, f"'{'ffi' * 166}ff'"),
        ("a" * 200_000 + " b", f"'{'a' * 500}'"),
        (" ".join(f"{number:x}" for number in range(30_000)), "'4000'"),
        ("é " * 60_000 + "unsearched", "'e'"),
    ):
        found = await connection.fetchval(f"SELECT {WORDS}($1)::text", text)
        assert last in found
        assert "unsearched" not in found


def test_a_missing_literal_of_the_migration_is_an_error() -> None:
    with pytest.raises(ValueError, match="the migration has no literal size"):
        folding._literal("size")
