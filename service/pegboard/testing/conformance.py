"""The conformance suite that tests of a resource inherit, with data generated from its schema."""

from __future__ import annotations

import inspect
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from zlib import crc32

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from pegboard.api import declared
from pegboard.testing import operating, reading, refusing, writing
from pegboard.testing.client import Client
from pegboard.testing.service import Loop, Running
from pegboard.testing.subject import Draw, Subject


@dataclass(frozen=True, slots=True)
class Check:
    """Hold a check: its function, the verbs that it needs (all, or one of them) and the number of examples."""

    rule: Callable[[Subject, Draw], None]
    verbs: tuple[str, ...] = ()
    examples: int = 1
    one_of: tuple[str, ...] = ()
    for_operations: bool = False

    def __str__(self) -> str:
        return self.rule.__name__

    def reason_to_skip(self, subject: Subject) -> str | None:
        """Return why the check does not apply to a resource; None if it does."""
        if not set(self.verbs) <= set(subject.verbs):
            return f"{subject.name} does not declare {' and '.join(self.verbs)}"
        if self.one_of and not set(self.one_of).intersection(subject.verbs):
            return f"{subject.name} declares none of {', '.join(self.one_of)}"
        if self.for_operations and not declared.operations(subject.resource):
            return f"{subject.name} declares no operation"
        return None


_SETTINGS = hypothesis.settings(
    deadline=None,
    database=None,  # Each run starts with an empty database, so failing examples cannot be replayed.
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)

_BODIES = ("POST", "PUT", "PATCH")

CHECKS = (
    Check(writing.creates_an_item, ("POST",), 20),
    Check(writing.creates_all_or_none, ("POST",), 2),
    Check(writing.creates_by_put, ("PUT",), 2),
    Check(writing.replays_a_retried_post, ("POST",)),
    Check(writing.replaces_all_fields, ("PUT",), 10),
    Check(writing.patches_only_the_fields_sent, ("PATCH",), 10),
    Check(writing.accepts_an_item_as_it_was_read, ("GET",), 3, one_of=("PUT", "PATCH")),
    Check(writing.refuses_ids_in_bodies, one_of=_BODIES),
    Check(writing.refuses_a_stale_etag, ("GET",), one_of=("PUT", "PATCH", "DELETE")),
    Check(writing.honors_prefer_minimal, one_of=_BODIES),
    Check(writing.deletes_an_item, ("DELETE",)),
    Check(reading.head_matches_get, ("GET", "HEAD")),
    Check(reading.returns_304_for_a_current_etag, ("GET",)),
    Check(reading.pages_show_each_item_once, ("GET",), 2),
    Check(reading.sorts_by_every_field, ("GET",), 3),
    Check(reading.filters_by_every_field, ("GET",), 3),
    Check(reading.returns_only_the_fields_requested, ("GET",), 2),
    Check(reading.exports_match_the_pages, ("GET",), 2),
    Check(reading.expands_references, ("GET",), 3),
    Check(refusing.refuses_invalid_values, (), 40, one_of=("POST", "PUT")),
    Check(refusing.refuses_incomplete_bodies, one_of=_BODIES),
    Check(refusing.refuses_malformed_bodies, one_of=_BODIES),
    Check(refusing.refuses_unsupported_accept, ("GET",)),
    Check(refusing.returns_404_for_an_unknown_id),
    Check(refusing.allows_only_the_declared_verbs),
    Check(refusing.requires_credentials),
    Check(refusing.requires_a_grant),
    Check(refusing.refuses_invalid_parameters, ("GET",)),
    Check(operating.operations_require_their_own_grants, for_operations=True),
    Check(operating.operations_allow_only_post, for_operations=True),
    Check(operating.operations_refuse_invalid_requests, for_operations=True),
    Check(operating.operations_handle_any_input, examples=10, for_operations=True),
    Check(operating.operations_run_once_per_key, examples=2, for_operations=True),
)
"""The checks of the suite, in the order in which they run."""


class Conformance:
    """Check that a resource conforms to the contract: inherit this class and name the resource.

        class TestBooks(Conformance):
            resource = "books"

    The data is generated from the schema. If the resource has further constraints, override `example` or `examples`:
    coroutines with a client of the service that holds all grants, to create what an item needs.
    """

    resource: ClassVar[str]
    """The name of the resource."""
    normalized: ClassVar[tuple[str, ...]] = ()
    """The fields that the resource stores in another form than they were sent."""
    effort: ClassVar[float] = 1.0
    """A factor for the number of examples; each rule is checked at least once."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """The names of the checks to skip, each with the reason."""

    _subject: Subject

    async def example(self, client: Client) -> dict[str, Any]:
        """Return the body of a new item; called for each item, so that unique fields can differ."""
        raise NotImplementedError

    async def examples(self, client: Client) -> SearchStrategy[dict[str, Any]]:
        """Return the strategy for the bodies of new items: from `example` if overridden, otherwise from the schema."""
        if type(self).example is Conformance.example:
            return self._subject.generated()
        return st.builds(lambda: self._drawn(client))

    def _drawn(self, client: Client) -> dict[str, Any]:
        # Hypothesis warns of strategies that use `random`, as the service does to create what an example needs.
        state = random.getstate()
        try:
            body: dict[str, Any] = self._awaited("example", client)
            return body
        finally:
            random.setstate(state)

    def _awaited(self, name: str, client: Client) -> Any:
        """Return the result of a coroutine of the author, which runs on an event loop of its own."""
        result = getattr(self, name)(client)
        if not inspect.iscoroutine(result):
            raise TypeError(f"{type(self).__name__}.{name} is no coroutine: write `async def {name}(self, client)`")
        return self._loop.run(result)

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_contract(self, check: Check, service: Running, pytestconfig: pytest.Config) -> None:
        """Check one rule of the contract."""
        unknown = self.exempt.keys() - set(map(str, CHECKS))
        if unknown:
            raise ValueError(f"exempt names {unknown.pop()}, which is none of {', '.join(map(str, CHECKS))}")
        if str(check) in self.exempt:
            pytest.skip(self.exempt[str(check)])
        self._subject = Subject(service, self.resource)
        self._subject.normalized = self.normalized
        # Not on the loop of the service, which must be able to respond meanwhile.
        self._loop = Loop()
        try:
            self._subject.bodies = self._awaited("examples", service.client)
            max_examples = max(1, round(check.examples * self.effort))
            seed = pytestconfig.getoption("--hypothesis-seed", None)
            examine(check, self._subject, seed, max_examples=max_examples)
        finally:
            self._loop.stop()


def examine(check: Check, subject: Subject, seed: str | int | None = None, **settings: Any) -> None:
    """Run one check; raises `ContractViolation` if it fails.

    The same `seed`, a text as in the option of pytest or a number, generates the same data; by default, a new one is
    chosen. It is added to the error. `settings` are those of Hypothesis.
    """
    reason = check.reason_to_skip(subject)
    if reason is not None:
        pytest.skip(reason)

    seed = _new_seed(check, subject) if seed is None else seed
    # Made before Hypothesis runs, because this may create the items that they refer to.
    subject.bodies = subject.bodies

    # As Hypothesis reads the option.
    @hypothesis.seed(int(seed) if str(seed).removeprefix("-").isdecimal() else seed)
    @hypothesis.settings(parent=_SETTINGS, **{"max_examples": check.examples, **settings})
    @hypothesis.given(st.data())
    def run(data: Any) -> None:
        check.rule(subject, data.draw)

    try:
        run()
    except Unsatisfiable as error:
        raise Unsatisfiable(
            f"no data for {subject.name} that it takes could be made from its schema: "
            "write the method example, or examples, of its Conformance"
        ) from error
    except Exception as error:
        error.add_note(f"To repeat the failure, run this test with --hypothesis-seed={seed}")
        raise


def _new_seed(check: Check, subject: Subject) -> int:
    """Return a random seed; the same each time if the settings of Hypothesis ask for it, as they do in CI."""
    if _SETTINGS.derandomize:
        return crc32(f"{subject.name} {check}".encode())
    return secrets.randbits(32)
