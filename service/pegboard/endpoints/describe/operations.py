"""The endpoints of a resource's operations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pegboard import errors
from pegboard.api.operation import Operation
from pegboard.auth import clients
from pegboard.endpoints.describe import errors as endpoint_errors
from pegboard.endpoints.describe import parameters
from pegboard.endpoints.describe.examples import example
from pegboard.endpoints.describe.resource import ResourceEndpoints, errors_of
from pegboard.endpoints.endpoint import Access, Body, Endpoint, Media, Parameter, ResponseSpec
from pegboard.http.negotiation import JSON
from pegboard.schema.loading import Loader
from pegboard.schema.schema import Schema


class OperationEndpoints(ResourceEndpoints):
    """Describe the endpoints of the operations of one resource."""

    def endpoints(self) -> Iterator[Endpoint]:
        """Yield the endpoints in the order in which the operations are declared."""
        for operation in self._declared.operations.values():
            on_item = operation.on == "item"
            path = f"/{self._name}/{{id}}/{operation.name}" if on_item else f"/{self._name}/{operation.name}"
            level = "item." if on_item else ""
            yield self._post(operation, path, level)
            options = f"{self._name}.{level}options.{operation.name}"
            yield self._options(path, level, options, f"See what is allowed on {operation.name}")

    def _post(self, operation: Operation, path: str, level: str) -> Endpoint:
        on_item = operation.on == "item"
        codes = (
            *(*endpoint_errors.CONNECTION, *endpoint_errors.CREDENTIALS),
            *(endpoint_errors.OPERATION_ON_ITEM if on_item else endpoint_errors.OPERATION),
            *((errors.PreconditionRequired,) if on_item and self._resource.needs_match else ()),
            *self._declared.error_codes,
        )
        loader = Loader(operation.request or Schema, ())
        grant = f"Needs the grant `{self._name}:{operation.name}`."
        return Endpoint(
            method="POST",
            path=path,
            handler=partial(self._guard.call, f"operation.{operation.name}"),
            plugin=self._name,
            access=Access(grants=(clients.sufficient_grants(self._name, operation.name),)),
            name=f"{self._name}.{level}{operation.name}",
            action=operation.name,
            summary=operation.summary,
            description=f"{operation.text}\n\n{grant}".strip(),
            body=self._body_of(operation),
            responses=tuple(self._replies_of(operation)),
            errors=codes,
            parameters=(*self._path_parameters(path), *self._parameters_of(operation)),
            invalid=errors_of(lambda: loader.load({})),
            errors_of=f"{self._name}.{level}{operation.name}",
        )

    def _parameters_of(self, operation: Operation) -> tuple[Parameter, ...]:
        conditions = self._conditions() if operation.on == "item" else ()
        preferences = ("Prefer",) if operation.response is not None else ()
        headers = (*conditions, "Idempotency-Key", *preferences)
        return self._item_parameters(headers) if operation.response == "item" else parameters.headers(*headers)

    def _body_of(self, operation: Operation) -> Body | None:
        if operation.request is None:
            return None
        shape = self._schemas.reference_to(operation.request)
        return Body({JSON: Media(shape, example(shape, self._schemas.components, reading=False))})

    def _replies_of(self, operation: Operation) -> Iterator[ResponseSpec]:
        replayed = "Idempotency-Replayed"
        if operation.response is None:
            yield ResponseSpec(204, "Done.", (replayed,))
        elif operation.response == "item":
            headers = ("Content-Location", "Preference-Applied", replayed)
            yield self._item(200, "The changed item.", *headers)
            yield self._minimal("Content-Location", replayed)
        else:
            shape = self._schemas.reference_to(operation.response)
            content = {JSON: Media(shape, example(shape, self._schemas.components))}
            yield ResponseSpec(200, "Done.", (replayed,), content)
            about = "Done; there is no body because of `Prefer: return=minimal`."
            yield ResponseSpec(204, about, ("Preference-Applied", replayed))
