"""The suite that a resource's tests inherit: the contract, checked by data made from the resource's own schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from pegboard.testing import operating, reading, refusing, writing
from pegboard.testing.service import Running
from pegboard.testing.subject import Draw, Subject


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one rule: what checks it, the verbs of which it needs all or one, and how often data is made up."""

    holds: Callable[[Subject, Draw], None]
    verbs: tuple[str, ...] = ()
    examples: int = 1
    one_of: tuple[str, ...] = ()
    of_operations: bool = False

    def __str__(self) -> str:
        return self.holds.__name__

    def lacks(self, subject: Subject) -> str | None:
        """Return why there is nothing to check of a resource; None where there is."""
        if not set(self.verbs) <= set(subject.verbs):
            return f"{subject.name} does not declare {' and '.join(self.verbs)}"
        if self.one_of and not set(self.one_of).intersection(subject.verbs):
            return f"{subject.name} declares none of {', '.join(self.one_of)}"
        if self.of_operations and not subject.resource.operations():
            return f"{subject.name} declares no operation"
        return None


_SETTINGS = hypothesis.settings(
    deadline=None,
    database=None,  # Nothing is kept from one run to the next, whose service begins with an empty database.
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)

_BODIES = ("POST", "PUT", "PATCH")

CHECKS = (
    Check(writing.creates_what_is_sent, ("POST",), 20),
    Check(writing.creates_all_or_none, ("POST",), 2),
    Check(writing.creates_by_put, ("PUT",), 2),
    Check(writing.replays_a_retried_post, ("POST",)),
    Check(writing.replaces_the_whole_item, ("PUT",), 10),
    Check(writing.patches_only_what_is_given, ("PATCH",), 10),
    Check(writing.takes_back_what_was_read, ("GET",), 3, one_of=("PUT", "PATCH")),
    Check(writing.keeps_ids_to_itself, one_of=_BODIES),
    Check(writing.refuses_a_stale_tag, ("GET",), one_of=("PUT", "PATCH", "DELETE")),
    Check(writing.answers_briefly, one_of=_BODIES),
    Check(writing.deletes_for_good, ("DELETE",)),
    Check(reading.heads_are_those_of_get, ("GET", "HEAD")),
    Check(reading.knows_what_the_client_has, ("GET",)),
    Check(reading.pages_show_each_item_once, ("GET",), 2),
    Check(reading.sorts_by_every_field, ("GET",), 3),
    Check(reading.filters_by_every_field, ("GET",), 3),
    Check(reading.shows_only_the_fields_asked_for, ("GET",), 2),
    Check(reading.exports_what_the_pages_show, ("GET",), 2),
    Check(reading.embeds_what_is_referred_to, ("GET",), 3),
    Check(refusing.refuses_wrong_values, (), 40, one_of=("POST", "PUT")),
    Check(refusing.refuses_incomplete_bodies, one_of=_BODIES),
    Check(refusing.refuses_bodies_of_another_form, one_of=_BODIES),
    Check(refusing.offers_nothing_but_json, ("GET",)),
    Check(refusing.knows_no_other_items),
    Check(refusing.allows_only_its_verbs),
    Check(refusing.asks_who_one_is),
    Check(refusing.asks_for_a_grant),
    Check(refusing.knows_its_parameters, ("GET",)),
    Check(operating.operations_ask_for_grants_of_their_own, of_operations=True),
    Check(operating.operations_are_posts, of_operations=True),
    Check(operating.operations_refuse_what_they_cannot_read, of_operations=True),
    Check(operating.operations_answer_whatever_comes, examples=10, of_operations=True),
    Check(operating.operations_are_done_once, examples=2, of_operations=True),
)
"""The suite, in the order in which it runs."""


class Conformance:
    """Hold a resource to the contract: inherit it, and name the resource.

        class TestBooks(Conformance):
            resource = "books"

    Data comes from the schema. Where more is demanded than that says, override `example` or `examples`.
    """

    resource: ClassVar[str]
    """The name that the resource answers at."""
    changed: ClassVar[tuple[str, ...]] = ()
    """The fields that the resource does not store as they are sent, but makes something else of."""
    effort: ClassVar[float] = 1.0
    """How many examples are tried, as a multiple of the usual number; each rule is checked at least once."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """The checks that are left out, by their names, and why."""

    subject: Subject

    def example(self) -> dict[str, Any]:
        """Return the body of a new item; called for each, so that what has to be unique can be."""
        raise NotImplementedError

    def examples(self) -> SearchStrategy[dict[str, Any]]:
        """Return the strategy for new bodies: of `example` where that is written, else made from the schema."""
        own = type(self).example is not Conformance.example
        return st.builds(self.example) if own else self.subject.generated()

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_contract(self, check: Check, service: Running) -> None:
        """Check one rule of the contract."""
        unknown = self.exempt.keys() - set(map(str, CHECKS))
        if unknown:
            raise ValueError(f"exempt names {unknown.pop()}, which is none of {', '.join(map(str, CHECKS))}")
        if str(check) in self.exempt:
            pytest.skip(self.exempt[str(check)])
        self.subject = Subject(service, self.resource)
        self.subject.changed = self.changed
        self.subject.bodies = self.examples()
        examine(check, self.subject, max_examples=max(1, round(check.examples * self.effort)))


def examine(check: Check, subject: Subject, **settings: Any) -> None:
    """Check one rule of `subject`; raise `Broken` where it does not hold. `settings` are Hypothesis's."""
    lacking = check.lacks(subject)
    if lacking is not None:
        pytest.skip(lacking)

    @hypothesis.settings(parent=_SETTINGS, **{"max_examples": check.examples, **settings})
    @hypothesis.given(st.data())
    def hold(data: Any) -> None:
        check.holds(subject, data.draw)

    try:
        hold()
    except Unsatisfiable as error:
        raise Unsatisfiable(
            f"no data for {subject.name} that it takes could be made from its schema: "
            "write the method example, or examples, of its Conformance"
        ) from error
