"""A client that sends one request after another, and encodes requests for the load."""

from __future__ import annotations

import http.client
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Request:
    """Describe a request; a body is JSON."""

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """Hold a response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body."""
        return orjson.loads(self.body)


class Client:
    """Send requests to a service on this machine, with the same headers as the load."""

    def __init__(self, port: int, password: str) -> None:
        self.port = port
        self._authorization = "Basic " + b64encode(f"admin:{password}".encode()).decode()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def send(self, request: Request) -> Response:
        """Return the response to a request. Raises `OSError` or `HTTPException` if there is none."""
        try:
            self._connection.request(request.method, request.target, request.body or None, dict(self._headers(request)))
            response = self._connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, headers, response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def encode(self, request: Request) -> bytes:
        """Return the bytes of a request as the load sends them."""
        headers = [("Host", f"127.0.0.1:{self.port}"), *self._headers(request)]
        if request.body:
            headers.append(("Content-Length", str(len(request.body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"{request.method} {request.target} HTTP/1.1\r\n{head}\r\n".encode() + request.body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _headers(self, request: Request) -> list[tuple[str, str]]:
        headers = {
            "User-Agent": "pegboard-benchmark",
            "Accept": "application/json",
            "Authorization": self._authorization,
        }
        if request.body:
            headers["Content-Type"] = "application/json"
        return list((headers | dict(request.headers)).items())
