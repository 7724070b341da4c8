"""The fixtures: a PostgreSQL per session, a service per module, and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from pegboard.hosting import discovery
from pegboard.testing import cluster
from pegboard.testing.client import Client
from pegboard.testing.service import Loop, Running, new_database, settings_for


@pytest.fixture(scope="session")
def pegboard_postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL for the session and return its URL."""
    cache = getattr(request.config, "cache", None)
    server = cluster.server(tmp_path_factory.mktemp("postgres"), cache and cache.mkdir("pegboard"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def pegboard_loop() -> Iterator[Loop]:
    """Run the event loop of the services and their clients."""
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(scope="module")
def pegboard_database(pegboard_postgres: str, pegboard_loop: Loop) -> str:
    """Create an empty database for the module and return its URL, which `psql` accepts."""
    return pegboard_loop.run(new_database(pegboard_postgres))


@pytest.fixture(scope="module")
def pegboard_settings() -> Mapping[str, str]:
    """Return settings of the service and its plugins by the names of their variables; override it to change them."""
    return {}


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, pegboard_database: str, pegboard_loop: Loop, pegboard_settings: Mapping[str, str]
) -> Iterator[Running]:
    """Run a service with the installed plugins, or with those that the option `pegboard_plugins` names."""
    plugin_names = request.config.getini("pegboard_plugins")
    environ = {"PEGBOARD_PLUGINS": ",".join(plugin_names), **pegboard_settings}
    points = discovery.installed()
    settings = settings_for(pegboard_database, environ, [point.name for point in points])
    # The environment of the tests has no influence, neither on the service nor on its plugins.
    plugins = discovery.discover(
        points, settings.plugins, settings.plugin_load_timeout, environ, mounts=dict(settings.mounts)
    )
    running = Running(pegboard_loop, settings, plugins)
    yield running
    running.close()


@pytest.fixture
def pegboard_clean(service: Running) -> None:
    """Restore the database to its state after the start of the service, before the test."""
    service.clean()


@pytest.fixture(scope="module")
def client(service: Running) -> Client:
    """Return a client of the service that holds all grants."""
    return service.client


@pytest.fixture(scope="module")
def client_with(service: Running) -> Callable[..., Client]:
    """Return a function that creates a client with the grants of its arguments: `client_with("books:GET")`."""
    return service.client_with
