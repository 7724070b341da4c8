"""A client of a running service for tests; it checks every response against `/openapi.json`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import aiohttp
import orjson
import yarl

from pegboard.app import Service
from pegboard.testing import openapi

ADMIN, PASSWORD = "admin", "correct horse"


@dataclass(frozen=True)
class Response:
    """Hold a complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the parsed body."""
        return orjson.loads(self.body)

    @property
    def errors(self) -> list[tuple[int, str | None]]:
        """Return the code of every error, and the pointer, parameter or header it refers to."""
        return [
            (error["code"], error.get("pointer", error.get("parameter", error.get("header"))))
            for error in self.json["errors"]
        ]


def basic(username: str, password: str) -> dict[str, str]:
    """Return the header for HTTP Basic authentication (RFC 7617)."""
    return {"Authorization": aiohttp.encode_basic_auth(username, password)}


@dataclass(frozen=True)
class Target:
    """Hold a running service, and the HTTP session of its clients on the event loop `loop`."""

    service: Service
    session: aiohttp.ClientSession
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True)
class Client:
    """Send requests to a running service, by default with the credentials of its administrator.

    A client can be used on any event loop; it sends its requests on that of the service. Each method returns a
    `Response` of any status, and follows no redirects. Raises `Undescribed`, an `AssertionError`, for a response that
    `/openapi.json` of the service does not describe.
    """

    _target: Target
    url: str
    headers: Mapping[str, str] = field(default_factory=lambda: basic(ADMIN, PASSWORD))

    async def request(self, method: str, path: str, json: Any = None, **options: Any) -> Response:
        """Send a request; `json` becomes its body, and `options` are those of `aiohttp.ClientSession.request`."""
        sending = self._send(method, path, json, options)
        if asyncio.get_running_loop() is self._target.loop:
            return await sending
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, self._target.loop))

    async def get(self, path: str, **options: Any) -> Response:
        """Send a GET."""
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Any) -> Response:
        """Send a HEAD."""
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Response:
        """Send a POST."""
        return await self.request("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> Response:
        """Send a PUT."""
        return await self.request("PUT", path, json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> Response:
        """Send a PATCH."""
        return await self.request("PATCH", path, json, **options)

    async def delete(self, path: str, **options: Any) -> Response:
        """Send a DELETE."""
        return await self.request("DELETE", path, **options)

    def as_client(self, username: str, password: str) -> Self:
        """Return a client with other credentials, or with none if the user name is empty."""
        return replace(self, headers=basic(username, password) if username else {})

    async def _send(self, method: str, path: str, json: Any, options: dict[str, Any]) -> Response:
        headers = {"Accept-Encoding": "identity", **self.headers, **options.pop("headers", {})}
        if json is not None:
            options["data"] = orjson.dumps(json)
            headers.setdefault("Content-Type", "application/json")
        url = yarl.URL(self.url + path, encoded=True)
        async with self._target.session.request(method, url, headers=headers, allow_redirects=False, **options) as raw:
            response = Response(raw.status, raw.headers, await raw.read())
        openapi.checker_of(self._target.service).check(method, path, response.status, response.headers, response.body)
        return response
