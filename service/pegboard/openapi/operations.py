"""The declared operations of one resource, as OpenAPI tells them: their paths, bodies and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pegboard import errors
from pegboard.openapi.answers import CONNECTION, CREDENTIALS, OPERATION, OPERATION_ON_ITEM
from pegboard.openapi.examples import example
from pegboard.openapi.paths import ResourcePaths, faults_of, identified, media, succeed
from pegboard.resources.operation import Operation
from pegboard.resources.reading import JSON
from pegboard.schemas.loading import Loader
from pegboard.schemas.schema import Schema


class OperationPaths(ResourcePaths):
    """Tell the paths of one resource's operations."""

    def paths(self) -> dict[str, dict[str, Any]]:
        """Return what stands at each path, in the order in which they are declared."""
        return dict(self._place(operation) for operation in self._resource.operations().values())

    def _place(self, operation: Operation) -> tuple[str, dict[str, Any]]:
        on_item = operation.on == "item"
        path = f"/{self._name}/{{id}}/{operation.name}" if on_item else f"/{self._name}/{operation.name}"
        level = "item." if on_item else ""
        options = self._options(level, ("POST",))
        options["operationId"] = f"{self._name}.{level}options.{operation.name}"
        options["summary"] = f"See what is allowed on {operation.name}"
        found = {"post": self._post(operation, level), "options": options}
        return path, {"parameters": [identified(self._resource)], **found} if on_item else found

    def _post(self, operation: Operation, level: str) -> dict[str, Any]:
        needed = operation.on == "item" and self._resource.needs_match
        codes = (
            *(*CONNECTION, *CREDENTIALS, *(OPERATION_ON_ITEM if operation.on == "item" else OPERATION)),
            *((errors.PRECONDITION_REQUIRED,) if needed else ()),
            *self._resource.error_codes,
        )
        loader = Loader(operation.request or Schema, ())
        faults = faults_of(lambda: loader.load({}))
        responses = self._answers_of(operation) | self._parts.answers.of(
            codes, f"{self._name}.{level}{operation.name}", faults
        )
        grant = f"Needs the grant `{self._name}:{operation.name}`."
        return {
            "tags": [self._name],
            "operationId": f"{self._name}.{level}{operation.name}",
            "summary": operation.summary,
            "description": f"{operation.text}\n\n{grant}".strip(),
            "parameters": self._parameters_of(operation),
            **self._body_of(operation),
            "responses": responses,
        }

    def _parameters_of(self, operation: Operation) -> list[Any]:
        conditions = self._conditions() if operation.on == "item" else []
        preferences = ["Prefer"] if operation.response is not None else []
        headers = (*conditions, "Idempotency-Key", *preferences)
        return self._taken(headers) if operation.response == "item" else self._parts.parameters.headers(*headers)

    def _body_of(self, operation: Operation) -> Mapping[str, Any]:
        if operation.request is None:
            return {}
        shape = self._parts.schemas.other(operation.request)
        value = example(shape, self._parts.schemas.components, reading=False)
        return {"requestBody": {"required": True, "content": {JSON: media(shape, value)}}}

    def _answers_of(self, operation: Operation) -> dict[str, Any]:
        if operation.response is None:
            return {"204": succeed("It is done.", "Idempotency-Replayed")}
        if operation.response == "item":
            told = ("Content-Location", "Preference-Applied", "Idempotency-Replayed")
            minimal = self._minimal()
            minimal["headers"] |= succeed("", *told)["headers"]
            return {"200": self._item("The item as it is now.", *told), "204": minimal}
        shape = self._parts.schemas.other(operation.response)
        value = example(shape, self._parts.schemas.components)
        done = succeed("It is done.", "Idempotency-Replayed", content={JSON: media(shape, value)})
        minimal = succeed(
            "Done; `Prefer: return=minimal` asked for no more.", "Preference-Applied", "Idempotency-Replayed"
        )
        return {"200": done, "204": minimal}
