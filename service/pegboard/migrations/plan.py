"""The steps from one table to another: some need an author's decision, some only if rows stand in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import asyncpg


@dataclass(frozen=True, slots=True)
class ManualStep:
    """Describe a step that an author must confirm: the reason, its SQL, and its effect on existing rows.

    `alternative` is the SQL to use in its place if the reason is another one. `on_empty` is the SQL for a table without
    rows, if it is not the same; `needs_author` is whether the step is manual even there.
    """

    reason: str
    sql: str
    effect: str = ""
    alternative: str = ""
    on_empty: str = ""
    needs_author: bool = False

    @property
    def cure(self) -> str:
        """Return the SQL for a message on one line."""
        sql = " ".join(self.sql.split())
        return f"{self.alternative}; or, if it was not renamed: {sql}" if self.alternative else sql


@dataclass(frozen=True, slots=True)
class CheckedStep:
    """Describe a step that is manual only if `query` returns rows, the descriptions of what stands in its way."""

    query: str
    step: ManualStep


Steps = Iterator[str | ManualStep | CheckedStep]


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the steps from the existing table to the declared one, in order.

    `drops` are the statements that remove the columns of fields that are no longer declared: nothing runs them.
    `notices` describe what changes for existing rows without any step.
    """

    steps: tuple[str | ManualStep | CheckedStep, ...] = ()
    drops: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def additive(self) -> list[str]:
        """Return the statements that can neither lose data nor fail because of existing rows."""
        return [step for step in self.steps if isinstance(step, str)]

    @property
    def manual(self) -> list[ManualStep]:
        """Return the steps that an author must confirm."""
        return [step for step in self.steps if isinstance(step, ManualStep)]

    @property
    def decided(self) -> list[str | ManualStep]:
        """Return all steps in order; a checked one counts as manual."""
        return [step.step if isinstance(step, CheckedStep) else step for step in self.steps]

    @property
    def without_rows(self) -> Plan:
        """Return the plan for a table without rows: what only rows stand in the way of is applied."""
        steps = (
            step.on_empty or step.sql if isinstance(step, ManualStep) and not step.needs_author else step
            for step in self.steps
        )
        return replace(self, steps=tuple(steps))

    @property
    def statements(self) -> list[str]:
        """Return the SQL of all steps, the manual ones included."""
        return [step if isinstance(step, str) else step.sql for step in self.decided]


NOTHING = Plan()


async def resolve(connection: asyncpg.Connection, plan: Plan) -> Plan:
    """Return the plan with each checked step as one that is applied or one that is manual, as the rows are now."""
    steps = [await _resolved(connection, step) if isinstance(step, CheckedStep) else step for step in plan.steps]
    return replace(plan, steps=tuple(steps))


async def _resolved(connection: asyncpg.Connection, step: CheckedStep) -> str | ManualStep:
    found = [row[0] for row in await connection.fetch(step.query)]
    if not found:
        return step.step.sql
    listed = "; ".join(text for text in found if text)
    return replace(step.step, reason=f"{step.step.reason}: {listed}") if listed else step.step


def reasons(steps: Iterable[ManualStep]) -> str:
    """Return the reasons of manual steps on one line."""
    return "; ".join(step.reason for step in steps)
