"""The fixtures of the kit: a PostgreSQL for the session, a service for each module, and its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from pegboard.hosting import discovery
from pegboard.testing import cluster
from pegboard.testing.client import Client
from pegboard.testing.service import Loop, Running, new_database, settings_for


@pytest.fixture(scope="session")
def pegboard_postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL for the session and give its URL."""
    cache = getattr(request.config, "cache", None)
    server = cluster.server(tmp_path_factory.mktemp("postgres"), cache and cache.mkdir("pegboard"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def pegboard_loop() -> Iterator[Loop]:
    """Run the event loop that services and their clients live on."""
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(scope="module")
def pegboard_database(pegboard_postgres: str, pegboard_loop: Loop) -> str:
    """Make an empty database for the module and give its URL."""
    return pegboard_loop.run(new_database(pegboard_postgres))


@pytest.fixture(scope="module")
def pegboard_settings() -> Mapping[str, str]:
    """Give what an operator would set, by the names of the variables; to be overridden."""
    return {}


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, pegboard_database: str, pegboard_loop: Loop, pegboard_settings: Mapping[str, str]
) -> Iterator[Running]:
    """Run a service with the plugins that are installed, or those that the option `pegboard_plugins` names."""
    chosen = request.config.getini("pegboard_plugins")
    environ = {"PEGBOARD_PLUGINS": ",".join(chosen), **pegboard_settings}
    points = discovery.installed()
    settings = settings_for(pegboard_database, environ, [point.name for point in points])
    running = Running(pegboard_loop, settings, discovery.discover(points, settings.plugins))
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(service: Running) -> Client:
    """Give a client of the service that holds all grants."""
    return service.client


@pytest.fixture(scope="module")
def client_with(service: Running) -> Callable[..., Client]:
    """Give what makes a client with the grants it is called with: `client_with("books:GET")`."""
    return service.client_with
