"""The settings of the service, and the messages for invalid ones."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest

from pegboard.settings import SETTINGS, Setting, Settings, SettingsError, linked_names
from pegboard.values import PerPlugin

SECRETS = {
    "database_url": "postgresql://me:topsecret@db/main",
    "read_database_url": "postgresql://me:topsecret@replica/main",
    "direct_database_url": "postgresql://me:topsecret@direct/main",
    "admin_password": "topsecret words",
}


def error_message(environ: dict[str, str], plugin_names: tuple[str, ...] = ()) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, plugin_names)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    return message


def test_an_empty_environment_results_in_the_documented_defaults() -> None:
    settings = Settings.load({})
    assert settings == Settings()
    assert dataclasses.asdict(settings) == {
        "database_url": None,
        "read_database_url": None,
        "direct_database_url": None,
        "data_dir": Path(".pegboard"),
        "host": "127.0.0.1",
        "port": 8080,
        "workers": 1,
        "admin_password": None,
        "plugins": None,
        "mounts": (),
        "plugins_required": (),
        "middlewares": (),
        "plugin_load_timeout": 20.0,
        "plugin_timeout": {"default": 30.0, "own": {}},
        "plugin_requests": {"default": 500, "own": {}},
        "plugin_pool_share": {"default": 80, "own": {}},
        "plugin_blocking": 1.0,
        "log_level": "info",
        "log_format": "text",
        "tracing": False,
        "max_body": 10 * 1024 * 1024,
        "max_head": 32 * 1024,
        "max_url": 8 * 1024,
        "max_nesting": 100,
        "receive_timeout": 30.0,
        "keepalive_timeout": 75.0,
        "shutdown_timeout": 25.0,
        "drain_seconds": 0.0,
        "lifespan_timeout": 30.0,
        "pool_size": 10,
        "read_pool_size": 10,
        "pool_timeout": 5.0,
        "database_timeout": 30.0,
        "path_prefix": "",
        "trusted_proxies": (),
        "cors_origins": (),
        "docs_public": True,
        "remember_seconds": 60.0,
    }


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_described_and_accepts_its_default(setting: Setting) -> None:
    assert setting.variable == f"PEGBOARD_{setting.name.upper()}"
    assert setting.description.endswith(".")
    if setting.default is None:
        assert getattr(Settings(), setting.name) is None
    else:
        assert getattr(Settings(), setting.name) == setting.parse(setting.default)


GOOD_OPTIONS = (
    "",
    "sslmode=",
    "sslmode=require&channel_binding=require&connect_timeout=5",
    "sslmode=verify-full&sslrootcert=system&sslnegotiation=direct",
    "ssl=true&keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=10000",
    "target_session_attrs=prefer-standby&load_balance_hosts=random&connect_timeout=-1",
    "gssencmode=disable&krbsrvname=postgres&client_encoding=UTF8&fallback_application_name=a&application_name=b",
    "options=-c%20geqo%3Doff&passfile=/nowhere&sslmode=disable&sslcert=/nowhere",
)
# The query, and what the message contains.
BAD_OPTIONS = (
    ("sslmode=maybe", "whose sslmode is one of disable, allow, prefer, require, verify-ca, verify-full, not 'maybe'"),
    ("target_session_attrs=foo", "one of any, read-write, read-only, primary, standby, prefer-standby, not 'foo'"),
    ("connect_timeout=abc", "whose connect_timeout is an integer, not 'abc'"),
    ("keepalives_idle=1.5", "whose keepalives_idle is an integer, not '1.5'"),
    ("channel_binding=yes", "whose channel_binding is one of disable, prefer, require, not 'yes'"),
    ("sslnegotiation=fast", "whose sslnegotiation is one of postgres, direct, not 'fast'"),
    ("sslnegotiation=direct", "whose sslmode is one of require, verify-ca, verify-full, as sslnegotiation is direct"),
    ("sslrootcert=system&sslmode=require", "whose sslmode is verify-full, as sslrootcert is system"),
    ("sslmode=verify-full&sslrootcert=/nowhere", "whose sslrootcert is a PEM file that can be read (No such file"),
    ("sslcert=/nowhere", "whose sslcert is a PEM file that can be read, with the key in sslkey (No such file"),
    ("gssencmode=require", "whose gssencmode is one of disable, prefer, not 'require'"),
    ("client_encoding=latin1", "whose client_encoding is one of auto, utf8, utf-8, unicode, not 'latin1'"),
    ("load_balance_hosts=yes", "whose load_balance_hosts is one of disable, random, not 'yes'"),
    ("ssl_min_protocol_version=TLSv2", "one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3, not 'TLSv2'"),
    (
        "ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
        "whose ssl_max_protocol_version is at least TLSv1.3, not TLSv1.2",
    ),
    ("ssl=false", "whose ssl is true, not 'false'"),
    ("port=many", "whose port is an integer from 1 to 65535, not 'many'"),
    ("service=main", "without the option 'service': write what the service file contains into the URL"),
    ("hostaddr=10.0.0.1", "without the option 'hostaddr': write the address in place of the host"),
    ("require_auth=scram-sha-256", "without the option 'require_auth': it cannot be enforced, so remove it"),
    ("replication=true", "without the option 'replication': remove it"),
    ("pgbouncer=true", "without the option 'pgbouncer': remove it, and set PEGBOARD_DIRECT_DATABASE_URL"),
    ("conect_timeout=5", "without the option 'conect_timeout': perhaps connect_timeout is meant"),
    ("search_path=main", "without the option 'search_path': remove it, or write a parameter of the server as options="),
    ("sslmode", "like postgresql://user:password@host:5432/database?NAME=VALUE&NAME=VALUE"),
    ("application_name=%ff", "like postgresql://user:password@host:5432/database?NAME=VALUE&NAME=VALUE"),
)


GOOD_VALUES: list[tuple[str, str, object]] = [
    ("database_url", "postgresql:///main?host=/run/postgresql", "postgresql:///main?host=/run/postgresql"),
    ("database_url", "postgres://u:p%40@[::1]:5433/main", "postgres://u:p%40@[::1]:5433/main"),
    ("database_url", "postgres://u:p@one:5433,[::1],two/main", "postgres://u:p@one:5433,[::1],two/main"),
    *(("database_url", f"postgresql://db/main?{query}", f"postgresql://db/main?{query}") for query in GOOD_OPTIONS),
    ("data_dir", "/var/lib/peg board", Path("/var/lib/peg board")),
    ("host", "::", "::"),
    ("port", "0", 0),
    ("port", "65535", 65535),
    ("workers", "256", 256),
    ("admin_password", "pässword", "pässword"),
    ("admin_password", "x" * 1024, "x" * 1024),
    ("plugins", "contacts, price-lists", ("contacts", "price-lists")),
    ("plugins_required", "contacts", ("contacts",)),
    ("plugin_timeout", "2.5", PerPlugin(2.5)),
    ("plugin_requests", "10, reports=2,files=3", PerPlugin(10, {"reports": 2, "files": 3})),
    ("log_level", "DEBUG", "debug"),
    ("log_format", "json", "json"),
    ("max_body", "1073741824", 1024**3),
    ("max_body", "10MiB", 10 * 1024**2),
    ("max_body", "512 kib", 512 * 1024),
    ("max_url", "256", 256),
    ("max_url", "256B", 256),
    ("max_nesting", "250", 250),
    ("receive_timeout", "0.1", 0.1),
    ("shutdown_timeout", "0", 0.0),
    ("remember_seconds", "3600", 3600.0),
    ("path_prefix", "/api", "/api"),
    ("path_prefix", "/api/v1.2/", "/api/v1.2"),
    ("path_prefix", "/", ""),
    ("cors_origins", "*", ("*",)),
    ("cors_origins", "https://app.example.com", ("https://app.example.com",)),
    ("cors_origins", "http://localhost:3000, HTTPS://App.example", ("http://localhost:3000", "https://app.example")),
    ("cors_origins", "https://a:443,http://a:80,http://a:443", ("https://a", "http://a", "http://a:443")),
    ("cors_origins", "http://[::1]:8000", ("http://[::1]:8000",)),
    ("docs_public", "False", False),
    ("trusted_proxies", "10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD_VALUES)
def test_valid_values_are_accepted(name: str, value: str, expected: object) -> None:
    assert getattr(Settings.load({f"PEGBOARD_{name.upper()}": value}, ("reports", "files")), name) == expected


BAD_VALUES = [
    ("database_url", "mysql://db/main"),
    ("database_url", "db.example:5432"),
    ("database_url", "postgresql://db:port/main"),
    ("database_url", "postgresql://db:70000/main"),
    ("database_url", "postgresql://db/main\n"),
    ("database_url", "postgresql://me:x@one,,two/main"),
    ("database_url", "postgresql://me:x@one:1,two:port/main"),
    ("database_url", "postgresql://me:x@one..two/main"),
    ("database_url", "postgresql://me:x?secret=1@one/main"),
    ("host", "127.0.0.1 ::1"),
    ("host", "local\thost"),
    ("port", "-1"),
    ("port", "65536"),
    ("port", "80.0"),
    ("port", "8_080"),
    ("port", "٨٠"),
    ("port", " 80"),
    ("port", "9" * 5000),
    ("port", "tcp://10.0.0.1"),
    ("port", "http://10.0.0.1:8080"),
    ("workers", "0"),
    ("workers", "257"),
    ("admin_password", "short"),
    ("admin_password", "e\u0301" * 7),
    ("admin_password", "x" * 1025),
    ("admin_password", "two lines\n"),
    ("plugins", "contacts,,orders"),
    ("plugins", "contacts,contacts"),
    ("plugins", "Contacts"),
    ("plugins_required", "../contacts"),
    ("plugin_timeout", "0"),
    ("plugin_timeout", "reports=30"),
    ("plugin_requests", "10,reports"),
    ("plugin_requests", "10,reports=0"),
    ("plugin_requests", "10,reports=1,reports=2"),
    ("plugin_pool_share", "101"),
    ("log_level", "loud"),
    ("log_format", "xml"),
    ("max_body", "1023"),
    ("max_body", "1GiB1"),
    ("max_body", "2GiB"),
    ("max_body", "10MB"),
    ("max_body", "-10MiB"),
    ("max_body", "1.5MiB"),
    ("max_head", "1B"),
    ("max_url", "255"),
    ("max_nesting", "0"),
    ("max_nesting", "251"),
    ("receive_timeout", "0"),
    ("receive_timeout", "nan"),
    ("receive_timeout", "1e3"),
    ("receive_timeout", "3601"),
    ("keepalive_timeout", "inf"),
    ("shutdown_timeout", "-1"),
    ("pool_size", "0"),
    ("read_pool_size", "1001"),
    ("pool_timeout", "5s"),
    ("database_timeout", "0.05"),
    ("path_prefix", "api"),
    ("path_prefix", "https://example.com/api"),
    ("path_prefix", "//api"),
    ("path_prefix", "/api/../x"),
    ("path_prefix", "/a b"),
    ("docs_public", "yes"),
    ("cors_origins", "app.example.com"),
    ("cors_origins", "https://app.example.com/"),
    ("cors_origins", "https://*.example.com"),
    ("cors_origins", "https://a,*"),
    ("cors_origins", "https://a,,https://b"),
    ("cors_origins", "https://me@a"),
    ("cors_origins", "https://bücher.example"),
    ("cors_origins", "null"),
    ("trusted_proxies", "10.0.0.1/8"),
    ("trusted_proxies", "proxy.example"),
    ("remember_seconds", "3600.5"),
    ("host", "\udcff"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=str.__repr__)
def test_invalid_values_are_rejected_by_variable_name(name: str, value: str) -> None:
    variable = f"PEGBOARD_{name.upper()}"
    message = error_message({variable: value})
    assert message.startswith(f"{variable} must be ")
    assert len(message) < 250
    if name in SECRETS:
        assert value not in message


@pytest.mark.parametrize("name", ["database_url", "read_database_url", "direct_database_url"])
@pytest.mark.parametrize(("query", "expected"), BAD_OPTIONS)
def test_options_of_a_url_that_cannot_be_used_are_named(name: str, query: str, expected: str) -> None:
    variable = f"PEGBOARD_{name.upper()}"
    message = error_message({variable: f"postgresql://me:topsecret@db/main?{query}"})
    assert message.startswith(f"{variable} must be a URL ")
    assert expected in message
    assert len(message) < 250
    assert "topsecret" not in message


def test_an_error_states_the_expected_and_the_actual_value() -> None:
    expected = "PEGBOARD_PORT must be an integer from 0 to 65535, not 'http\\n'."
    assert error_message({"PEGBOARD_PORT": "http\n"}) == expected


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_empty_variable_counts_as_not_set(setting: Setting) -> None:
    assert Settings.load({setting.variable: "", setting.file_variable: ""}) == Settings()


def test_a_limit_for_an_uninstalled_plugin_is_rejected() -> None:
    message = error_message({"PEGBOARD_PLUGIN_TIMEOUT": "30,reprots=120"}, ("contacts", "reports"))
    assert message == "PEGBOARD_PLUGIN_TIMEOUT names the plugin reprots, which is not installed. Did you mean reports?"


def test_unrelated_variables_are_ignored() -> None:
    assert Settings.load({"PATH": "/bin", "PEGBOARDS_PORT": "1", "pegboard_port": "1"}) == Settings()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("correct horse", "correct horse"),
        ("correct horse\n", "correct horse"),
        ("correct horse\r\n", "correct horse"),
        (" correct horse ", " correct horse "),
    ],
)
def test_a_value_from_a_file_drops_its_final_newline(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    assert Settings.load({"PEGBOARD_ADMIN_PASSWORD_FILE": str(file)}).admin_password == expected


def test_only_one_newline_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse\n\n")
    assert error_message({"PEGBOARD_ADMIN_PASSWORD_FILE": str(file)}).startswith(
        "The content of PEGBOARD_ADMIN_PASSWORD_FILE must be 8 to 1024 characters long"
    )


def test_every_setting_can_come_from_a_file(tmp_path: Path) -> None:
    for setting in SETTINGS:
        value = SECRETS.get(setting.name, "contacts" if setting.default is None else setting.default)
        file = tmp_path / setting.name
        file.write_text(value + "\n")
        environ = {setting.file_variable: str(file)}
        if setting.name in ("read_database_url", "direct_database_url"):
            environ["PEGBOARD_DATABASE_URL"] = SECRETS["database_url"]
        assert getattr(Settings.load(environ), setting.name) == setting.parse(value)


def test_an_empty_file_is_an_empty_value(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.touch()
    assert Settings.load({"PEGBOARD_PLUGINS_FILE": str(file)}).plugins == ()
    assert error_message({"PEGBOARD_PORT_FILE": str(file)}) == (
        "The content of PEGBOARD_PORT_FILE must be an integer from 0 to 65535, not ''."
    )


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "nowhere"
    message = error_message({"PEGBOARD_PORT_FILE": str(file)})
    assert message == f"PEGBOARD_PORT_FILE: cannot read {str(file)!r}: No such file or directory."


def test_a_folder_instead_of_a_file_is_reported(tmp_path: Path) -> None:
    assert error_message({"PEGBOARD_PORT_FILE": str(tmp_path)}).endswith(": Is a directory.")


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    # A link to itself: unlike a file without permissions, not even the superuser can read it.
    file = tmp_path / "loop"
    file.symlink_to(file)
    message = error_message({"PEGBOARD_ADMIN_PASSWORD_FILE": str(file)})
    assert message == f"PEGBOARD_ADMIN_PASSWORD_FILE: cannot read {str(file)!r}: Too many levels of symbolic links."


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xff\xfe")
    assert error_message({"PEGBOARD_ADMIN_PASSWORD_FILE": str(file)}) == (
        f"PEGBOARD_ADMIN_PASSWORD_FILE: {str(file)!r} does not hold UTF-8 text."
    )


def test_a_variable_together_with_its_file_is_rejected() -> None:
    assert error_message({"PEGBOARD_PORT": "80", "PEGBOARD_PORT_FILE": "/run/port"}) == (
        "PEGBOARD_PORT and PEGBOARD_PORT_FILE are both set: set one of them."
    )


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("PEGBOARD_PROT", "PEGBOARD_PORT"),
        ("PEGBOARD_DATABASE_URI", "PEGBOARD_DATABASE_URL"),
        ("PEGBOARD_ADMIN_PASSWORDFILE", "PEGBOARD_ADMIN_PASSWORD"),
        ("PEGBOARD_ADMIN_PASSWRD_FILE", "PEGBOARD_ADMIN_PASSWORD_FILE"),
        ("PEGBOARD_port", "PEGBOARD_PORT"),
    ],
)
def test_an_unknown_variable_is_rejected_with_a_suggestion(unknown: str, nearest: str) -> None:
    assert error_message({unknown: "1"}) == (
        f"{unknown} is not a setting of the service or of an installed plugin. Did you mean {nearest}?"
    )


ADDRESSES = ("10.0.0.1", "fd00::1")


def kubernetes_variables(service: str, address: str) -> dict[str, str]:
    """Return what the documentation of Kubernetes has for a service with two ports, one of them named."""
    name = service.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    variables = {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": "80",
        f"{name}_SERVICE_PORT_HTTP_ALT": "80",
        f"{name}_PORT": f"tcp://{host}:80",
    }
    for protocol, port in (("tcp", "80"), ("udp", "53"), ("sctp", "132")):
        one = f"{name}_PORT_{port}_{protocol.upper()}"
        variables[one] = f"{protocol}://{host}:{port}"
        variables |= {f"{one}_PROTO": protocol, f"{one}_PORT": port, f"{one}_ADDR": address}
    return variables


def docker_variables(alias: str) -> dict[str, str]:
    """Return what the documentation of Docker's links has in addition."""
    name = alias.upper().replace("-", "_")
    return {
        f"{name}_NAME": f"/web/{alias}",
        f"{name}_PORT_80_TCP_START": "tcp://172.17.0.5:80",
        f"{name}_PORT_80_TCP_PORT_END": "81",
        f"{name}_ENV_POSTGRES_PASSWORD": "any text",
        f"{name}_ENV_port": "tcp",
    }


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("service", ["pegboard", "pegboard-db", "pegboard-workers", "pegboard-port", "pegboard-books"])
def test_variables_of_kubernetes_and_docker_are_ignored(service: str, address: str) -> None:
    variables = kubernetes_variables(service, address) | docker_variables(service)
    assert linked_names(variables) == set(variables)
    assert Settings.load(variables) == Settings()
    assert Settings.load(variables, ["books", "db"]) == Settings()
    for name, value in kubernetes_variables(service, address).items():
        assert Settings.load({name: value}) == Settings()


@pytest.mark.parametrize("address", ADDRESSES)
def test_settings_beside_variables_of_kubernetes_are_read(address: str, tmp_path: Path) -> None:
    others = kubernetes_variables("pegboard", address)
    port = others.pop("PEGBOARD_PORT")
    assert Settings.load({**others, "PEGBOARD_PORT": "9000"}).port == 9000
    (tmp_path / "port").write_text("9001")
    assert Settings.load({**others, "PEGBOARD_PORT": port, "PEGBOARD_PORT_FILE": f"{tmp_path}/port"}).port == 9001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PEGBOARD_SERVICE_HOST", "db.example"),
        ("PEGBOARD_SERVICE_HOST", "10.0.0"),
        ("PEGBOARD_SERVICE_PORT", "http"),
        ("PEGBOARD_SERVICE_PROT", "80"),
        ("PEGBOARD_DB_PORT", "5432"),
        ("PEGBOARD_DB_PORT", "tcp://db:5432"),
        ("PEGBOARD_DB_PORT", "tcp://10.0.0.1:5432/x"),
        ("PEGBOARD_DB_PORT_5432_TCP", "udp"),
        ("PEGBOARD_PORT_80_TCP_PROTO", "http"),
        ("PEGBOARD_PORT_80_TCP_ADDR", "a.b"),
        ("PEGBOARD_DB_NAME", "main"),
        ("PEGBOARD_DB_ENV_USER", "me"),
        ("PEGBOARD_PORTS", "tcp://10.0.0.1:80"),
    ],
)
def test_other_variables_with_similar_names_or_values_are_rejected(name: str, value: str) -> None:
    assert error_message({name: value}).startswith(f"{name} is not a setting of the service")


def test_no_distant_name_is_suggested() -> None:
    message = error_message({"PEGBOARD_XYZZY": "1"})
    assert message == "PEGBOARD_XYZZY is not a setting of the service or of an installed plugin."


def test_variables_of_installed_plugins_are_ignored() -> None:
    environ = {"PEGBOARD_CONTACTS_REGION": "CH", "PEGBOARD_PRICE_LISTS_CURRENCY_FILE": "/run/currency"}
    assert Settings.load(environ, ["contacts", "price-lists"]) == Settings()
    assert error_message(environ, ("contacts",)).startswith("PEGBOARD_PRICE_LISTS_CURRENCY_FILE is not a setting")


def test_a_plugin_cannot_use_a_setting_of_the_service() -> None:
    assert Settings.load({"PEGBOARD_POOL_SIZE": "3"}, ["pool"]).pool_size == 3


def test_a_required_plugin_must_be_enabled() -> None:
    environ = {"PEGBOARD_PLUGINS": "contacts", "PEGBOARD_PLUGINS_REQUIRED": "contacts,orders"}
    assert error_message(environ) == "PEGBOARD_PLUGINS_REQUIRED names orders, which PEGBOARD_PLUGINS does not contain."
    assert Settings.load({"PEGBOARD_PLUGINS_REQUIRED": "orders"}).plugins_required == ("orders",)


def test_secrets_are_never_shown() -> None:
    settings = Settings.load({f"PEGBOARD_{name.upper()}": value for name, value in SECRETS.items()})
    assert {setting.name for setting in SETTINGS if setting.secret} == set(SECRETS)
    assert all(getattr(settings, name) == value for name, value in SECRETS.items())
    assert "topsecret" not in f"{settings!r} {settings}"


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]  # that it is refused is what is tested
