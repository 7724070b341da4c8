"""Throttling after failures, and what they are attributed to."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from pegboard.auth.throttle import ADDRESS, LOCAL, PAIR, Throttle, source

PROXIES = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock, max_keys=200)


def fail(throttle: Throttle, times: int, username: str = "ada", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        throttle.begin(username, address)


def test_the_wait_doubles_with_each_failure_after_the_first_ones(throttle: Throttle, clock: Clock) -> None:
    waits = []
    for _ in range(PAIR.free + 12):
        waits.append(throttle.wait("ada", "192.0.2.1"))
        clock.now += waits[-1]
        fail(throttle, 1)
    assert waits[: PAIR.free] == [0] * PAIR.free
    assert waits[PAIR.free :] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_other_addresses_and_other_users_do_not_wait(throttle: Throttle) -> None:
    fail(throttle, 20)
    assert throttle.wait("ada", "192.0.2.1") > 0
    assert throttle.wait("ada", "192.0.2.2") == 0
    assert throttle.wait("bob", "192.0.2.1") == 0


def test_an_address_that_tries_many_users_is_throttled(throttle: Throttle) -> None:
    for number in range(ADDRESS.free):
        assert throttle.wait(f"user {number}", "192.0.2.1") == 0
        fail(throttle, 1, f"user {number}")
    assert throttle.wait("ada", "192.0.2.1") == 1
    assert throttle.wait("ada", "192.0.2.2") == 0


def test_addresses_of_an_ipv6_network_are_counted_together(throttle: Throttle) -> None:
    for number in range(20):
        fail(throttle, 1, address=f"2001:db8::{number:x}")
    assert throttle.wait("ada", "2001:db8::ffff:1") > 0
    assert throttle.wait("ada", "2001:db8:0:1::1") == 0


def test_a_success_resets_the_failures_of_the_user(throttle: Throttle) -> None:
    fail(throttle, 8)
    throttle.succeed("ada", "192.0.2.1")
    assert throttle.wait("ada", "192.0.2.1") == 0


def test_a_success_does_not_reset_failures_of_other_users(throttle: Throttle) -> None:
    for number in range(100):
        fail(throttle, 1, f"user {number}")
        throttle.begin("mallory", "192.0.2.1")
        throttle.succeed("mallory", "192.0.2.1")
    assert throttle.wait("ada", "192.0.2.1") > 0


def test_an_undone_attempt_does_not_count(throttle: Throttle) -> None:
    for _ in range(100):
        throttle.begin("ada", "192.0.2.1")
        throttle.undo("ada", "192.0.2.1")
    assert throttle.wait("ada", "192.0.2.1") == 0


def test_failures_expire_after_an_hour(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, 50)
    clock.now += 3601
    assert throttle.wait("ada", "192.0.2.1") == 0
    fail(throttle, 1)
    assert throttle.wait("ada", "192.0.2.1") == 0


def test_an_address_is_trusted_after_a_success_until_too_many_failures(throttle: Throttle, clock: Clock) -> None:
    assert not throttle.trusts("192.0.2.1")
    throttle.begin("ada", "192.0.2.1")
    throttle.succeed("ada", "192.0.2.1")
    assert throttle.trusts("192.0.2.1")
    assert not throttle.trusts("192.0.2.2")
    fail(throttle, ADDRESS.free)
    assert not throttle.trusts("192.0.2.1")
    clock.now += 25 * 3600
    assert not throttle.trusts("192.0.2.1")


def test_notifications_update_the_counts_of_other_workers(clock: Clock) -> None:
    first, second = Throttle(clock), Throttle(clock)
    for _ in range(6):
        first.begin("ada", "2001:db8::1")
        second.receive(first.fail("ada", "2001:db8::1"))
    assert second.wait("ada", "2001:db8::1") == first.wait("ada", "2001:db8::1") == 2
    first.begin("ada", "2001:db8::1")
    message = first.succeed("ada", "2001:db8::1")
    assert message is not None
    second.receive(message)
    assert second.wait("ada", "2001:db8::1") == 0
    assert second.trusts("2001:db8::1")


def test_only_the_first_success_is_notified(throttle: Throttle) -> None:
    throttle.begin("ada", "192.0.2.1")
    assert throttle.succeed("ada", "192.0.2.1") is not None
    throttle.begin("ada", "192.0.2.1")
    assert throttle.succeed("ada", "192.0.2.1") is None


def test_every_notification_is_unique(throttle: Throttle) -> None:
    assert throttle.fail("ada", "192.0.2.1") != throttle.fail("ada", "192.0.2.1")


def test_notifications_contain_no_user_name(throttle: Throttle) -> None:
    assert "ada" not in throttle.fail("ada", "192.0.2.1")


def test_memory_is_bounded(throttle: Throttle) -> None:
    for number in range(2000):
        fail(throttle, 1, f"user {number}", f"198.51.{number // 250}.{number % 250}")
        throttle.succeed(f"user {number}", f"198.51.{number // 250}.{number % 250}")
        fail(throttle, 1, f"user {number}", f"198.51.{number // 250}.{number % 250}")
    held = (throttle._pairs._seen, throttle._addresses._seen, throttle._trusted)
    assert [len(part) for part in held] == [200, 200, 200]


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["203.0.113.9", "198.51.100.7,10.2.2.2"], "198.51.100.7"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["198.51.100.7, unknown"], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("::ffff:10.1.1.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("fe80::1%eth0", [], "fe80::1%eth0"),
        (None, ["198.51.100.7"], LOCAL),
        ("", [], LOCAL),
    ],
)
def test_the_client_address_is_the_last_untrusted_hop(remote: str | None, forwarded: list[str], expected: str) -> None:
    assert source(remote, forwarded, PROXIES) == expected
