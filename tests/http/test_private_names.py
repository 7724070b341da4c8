"""Private names of aiohttp: used in one module only, and listed here with the module or class that defines them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from aiohttp import streams, web, web_protocol, web_urldispatcher
from aiohttp.base_protocol import BaseProtocol

import pegboard
from pegboard.http import protocol

ROOT = Path(pegboard.__file__).parent
MODULES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
OURS = "http/protocol.py"

USED: dict[Any, tuple[str, ...]] = {
    web.Application: ("_handle", "_loop", "_make_handler", "_make_request", "_on_response_prepare", "_set_loop"),
    web.BaseRequest: ("_message", "_method", "_payload", "_payload_writer", "_protocol", "_version"),
    web.Request: ("_match_info",),
    web_urldispatcher.UrlMappingMatchInfo: ("_apps",),
    web.StreamResponse: (
        *("_body", "_body_length", "_chunked", "_compression", "_cookies", "_eof_sent", "_headers", "_keep_alive"),
        *("_reason", "_state", "_status"),
    ),
    web.Response: ("_zlib_executor", "_zlib_executor_size"),
    web.Server: ("_connections", "_kwargs", "_loop"),
    web_protocol.RequestHandler: (
        *("_close", "_current_request", "_force_close", "_keepalive", "_manager", "_max_msg_queue_size", "_messages"),
        *("_next_keepalive_close_time", "_process_keepalive", "_request_count", "_waiter"),
    ),
    BaseProtocol: ("_buffer_paused", "_drain_helper", "_loop", "_parser", "_paused", "_reading_paused", "_upgraded"),
}
"""The names used by the module, by their class; test_server.py tests the behavior that it relies on."""

PARAMETERS: dict[Any, tuple[str, ...]] = {
    web.Application._handle: ("self", "request"),
    web.Application._make_handler: ("self", "loop", "access_log_class", "kwargs"),
    web.Application._make_request: ("self", "message", "payload", "protocol", "writer", "task", "_cls"),
    web.Application._set_loop: ("self", "loop"),
    web.StreamResponse.prepare: ("self", "request"),
    web.Server._make_request: ("self", "message", "payload", "protocol", "writer", "task"),
    web.Server.pre_shutdown: ("self",),
    web.Server.shutdown: ("self", "timeout"),
    web_protocol.RequestHandler._process_keepalive: ("self",),
    web_protocol.RequestHandler.connection_lost: ("self", "exc"),
    web_protocol.RequestHandler.data_received: ("self", "data"),
    web_protocol.RequestHandler.shutdown: ("self", "timeout"),
    web_protocol.RequestHandler.handle_error: ("self", "request", "status", "exc", "message"),
    BaseProtocol._drain_helper: ("self",),
    BaseProtocol.resume_writing: ("self",),
    streams.StreamReader.set_exception: ("self", "exc", "exc_cause"),
}
"""The functions that are called or overridden, with their parameters."""


def source_of(owner: Any) -> str:
    return inspect.getsource(owner)


def private_names(path: Path) -> set[str]:
    """Return the private names that a module uses but does not define."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            found.add(node.attr)
    return found


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module != OURS and "aiohttp" in MODULES[module].read_text()]
)
def test_aiohttps_private_names_are_used_in_one_module(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    names = {name for own in USED.values() for name in own} | {"_read_bytes", "_rel_url", "_client_max_size", "_start"}
    # Private attributes of self belong to the class.
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    own |= {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Name)
    }
    assert not (private_names(MODULES[module]) & names) - own
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp"):
            assert node.module not in ("aiohttp.web_protocol", "aiohttp.base_protocol", "aiohttp.http_parser")
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


def test_every_private_name_of_the_module_is_listed() -> None:
    listed = {name for names in USED.values() for name in names}
    of_ours = {
        name.removeprefix("self.")
        for owner in (protocol.Protocol, protocol.Server, protocol.Response)
        for name in (*vars(owner), *getattr(owner, "__slots__", ()))
    } | {"_app", "_cors", "_inspection", "_period", "_refusals", "_settings"}
    # Methods of namedtuples.
    assert private_names(MODULES[OURS]) - of_ours - {"_replace"} <= listed


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in USED.items() for name in names],
    ids=lambda part: str(part)[-40:],
)
def test_aiohttp_has_the_private_names_in_use(owner: Any, name: str) -> None:
    exists = hasattr(owner, name) or any(
        f"self.{name}" in source_of(base) for base in owner.__mro__[:-1] if base.__module__.startswith("aiohttp")
    )
    assert exists, f"{owner.__name__} has no {name} anymore"


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda function: function.__qualname__)
def test_signatures_of_private_functions_are_unchanged(function: Any) -> None:
    assert tuple(inspect.signature(function).parameters) == PARAMETERS[function]


def test_the_parser_error_has_the_attributes_in_use() -> None:
    assert web_protocol._ErrInfo(status=400, exc=ValueError(), message="x").status == 400
    assert protocol.Protocol.__mro__[1] is web_protocol.RequestHandler
