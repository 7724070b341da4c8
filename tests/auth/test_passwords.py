"""Passwords: validation, hashing, checking, and priorities of waiting checks."""

from __future__ import annotations

import asyncio

import pytest

from pegboard import errors
from pegboard.auth.passwords import Cost, Passwords, prepare
from pegboard.errors import ApiError

CHEAP = Cost(memory=8, passes=1)
SLOW = Cost(memory=16 * 1024, passes=2)


@pytest.mark.parametrize("password", ["12345678", "pä:ss 🔑 wörd", "\N{ZERO WIDTH JOINER}" * 8, "x" * 1024, "é" * 1024])
def test_a_password_is_hashed_as_utf_8(password: str) -> None:
    assert prepare(password) == password.encode()


def test_passwords_are_normalized() -> None:
    assert prepare("cafe\N{COMBINING ACUTE ACCENT} noir") == prepare("caf\N{LATIN SMALL LETTER E WITH ACUTE} noir")
    assert prepare("e\N{COMBINING ACUTE ACCENT}" * 1024) == prepare("é" * 1024)


@pytest.mark.parametrize(
    ("password", "kind"),
    [
        ("", errors.TooShort),
        ("1234567", errors.TooShort),
        ("e\N{COMBINING ACUTE ACCENT}" * 7, errors.TooShort),
        ("x" * 1025, errors.TooLong),
        ("x" * 5_000_000, errors.TooLong),
        ("e" + "\N{COMBINING ACUTE ACCENT}\N{COMBINING DOT BELOW}" * 100_000, errors.TooLong),
        ("12345678\0", errors.InvalidCharacters),
        ("1234\n5678", errors.InvalidCharacters),
        ("12345678\x7f", errors.InvalidCharacters),
        ("12345678\x85", errors.InvalidCharacters),
        ("12345678\ud800", errors.InvalidCharacters),
    ],
)
def test_invalid_passwords_are_rejected_and_not_repeated(password: str, kind: type[ApiError]) -> None:
    with pytest.raises(ApiError) as caught:
        prepare(password, "/password")
    assert type(caught.value) is kind
    assert caught.value.details[0].pointer == "/password"
    assert len(password) < 8 or password not in str(caught.value)


async def test_only_the_exact_password_matches() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash(b"correct horse")
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert stored != await passwords.hash(b"correct horse")
    assert await passwords.verify(stored, b"correct horse")
    assert not await passwords.verify(stored, b"correct horsf")
    assert not await passwords.verify(None, b"correct horse")


def test_the_hash_cost_meets_the_owasp_minimum() -> None:
    assert Cost() == Cost(memory=19 * 1024, passes=2)


@pytest.mark.parametrize(
    "stored", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$", "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"]
)
async def test_a_malformed_hash_matches_no_password(stored: str) -> None:
    assert not await Passwords(CHEAP).verify(stored, b"correct horse")


async def test_a_hash_with_another_cost_is_outdated() -> None:
    stored = await Passwords(CHEAP).hash(b"correct horse")
    assert not Passwords(CHEAP).outdated(stored)
    assert Passwords(SLOW).outdated(stored)
    assert await Passwords(SLOW).verify(stored, b"correct horse")


async def test_checks_above_the_queue_limit_are_rejected_with_retry_after() -> None:
    passwords = Passwords(SLOW, threads=1, waiting=3)
    outcomes = await asyncio.gather(*(passwords.verify(None, b"a guess") for _ in range(10)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    assert outcomes.count(False) == 4
    assert len(refused) == 6
    assert {(type(error), error.headers["Retry-After"]) for error in refused} == {(errors.TooManyRequests, "1")}


async def test_prioritized_checks_overtake_waiting_checks() -> None:
    passwords = Passwords(SLOW, threads=1)
    order: list[str] = []

    async def check(name: str, *, first: bool) -> None:
        await passwords.verify(None, b"a guess", priority=first)
        order.append(name)

    await asyncio.gather(*(check(f"other {n}", first=False) for n in range(4)), check("known", first=True))
    assert order == ["other 0", "known", "other 1", "other 2", "other 3"]


async def test_a_cancelled_check_passes_its_turn_to_the_next() -> None:
    passwords = Passwords(SLOW, threads=1, waiting=4)
    tasks = [asyncio.ensure_future(passwords.verify(None, b"a guess")) for _ in range(4)]
    await asyncio.sleep(0.001)
    tasks[1].cancel()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [True, True, False, False]
    async with asyncio.timeout(5):
        assert not await passwords.verify(None, b"a guess")
