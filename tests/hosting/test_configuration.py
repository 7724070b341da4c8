"""Settings of plugins: parsed from the environment by their schemas, separately for each plugin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pegboard import Context, Resource, Schema, ValidationError, validate
from pegboard.hosting import discovery, plugin_settings
from pegboard.hosting.checks.declaration import problem
from pegboard.hosting.discovery import State
from pegboard.schema import fields
from pegboard.settings import SettingsError
from tests.conftest import Serve
from tests.installed import Site, site

__all__ = ("site",)

SECRET = "a very secret thing"


def refuse(value: str) -> None:
    if value != SECRET:
        raise ValidationError(f"{value} is not it.")


class Mail(Schema):
    host = fields.String(required=True, validate=validate.Length(1, 20))
    port = fields.Integer(load_default=25, validate=validate.Range(1, 65535))
    ratio = fields.Float()
    cost = fields.Decimal()
    secure = fields.Boolean(load_default=True)
    since = fields.Date()
    names = fields.List(fields.String(), load_default=list)
    ports = fields.List(fields.Integer())
    extra = fields.Dict()
    token = fields.String(load_only=True, validate=refuse)
    key_of = fields.String(data_key="key")


def read(*plugins: str, **variables: str) -> Mapping[str, Any]:
    environ = {f"PEGBOARD_{name}": value for name, value in variables.items()}
    return plugin_settings.read(Mail, "mail-box", environ, plugins)


def test_variables_are_parsed_by_the_fields_of_the_schema() -> None:
    values = read(
        MAIL_BOX_HOST="localhost",
        MAIL_BOX_PORT=" 587 ",
        MAIL_BOX_RATIO="0.5",
        MAIL_BOX_COST="1.50",
        MAIL_BOX_SECURE="false",
        MAIL_BOX_SINCE="2015-02-15",
        MAIL_BOX_NAMES="a, b",
        MAIL_BOX_PORTS="[1, 2]",
        MAIL_BOX_EXTRA='{"deep": {"er": null}}',
        MAIL_BOX_TOKEN=SECRET,
        MAIL_BOX_KEY="k",
        MAIL_OTHER="of nobody",
        LOG_LEVEL="debug",
    )
    assert values == {
        "host": "localhost",
        "port": 587,
        "ratio": 0.5,
        "cost": Decimal("1.50"),
        "secure": False,
        "since": date(2015, 2, 15),
        "names": ["a", "b"],
        "ports": [1, 2],
        "extra": {"deep": {"er": None}},
        "token": SECRET,
        "key_of": "k",
    }
    with pytest.raises(TypeError):
        values["host"] = "elsewhere"  # type: ignore[index]  # deliberately invalid


def test_missing_variables_have_their_defaults() -> None:
    assert read(MAIL_BOX_HOST="h", MAIL_BOX_PORT="") == {"host": "h", "port": 25, "secure": True, "names": []}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "PEGBOARD_MAIL_BOX_HOST is not set: Missing data for required field"),
        ({"MAIL_BOX_HOST": ""}, "PEGBOARD_MAIL_BOX_HOST is not set: Missing data for required field"),
        ({"MAIL_BOX_PORT": "1_0"}, "PEGBOARD_MAIL_BOX_PORT: Not a valid integer"),
        ({"MAIL_BOX_PORT": "0"}, "PEGBOARD_MAIL_BOX_PORT: Must be greater than or equal to 1"),
        ({"MAIL_BOX_SECURE": "yes"}, "PEGBOARD_MAIL_BOX_SECURE: Not a valid boolean"),
        ({"MAIL_BOX_SINCE": "today"}, "PEGBOARD_MAIL_BOX_SINCE: Not a valid date"),
        ({"MAIL_BOX_PORTS": "1,x"}, "PEGBOARD_MAIL_BOX_PORTS: Not a valid integer"),
        ({"MAIL_BOX_PORTS": '["x"]'}, "PEGBOARD_MAIL_BOX_PORTS: Not a valid integer"),
        ({"MAIL_BOX_EXTRA": "{"}, "PEGBOARD_MAIL_BOX_EXTRA: Not valid JSON"),
        ({"MAIL_BOX_TOKEN": "wrong secret"}, "PEGBOARD_MAIL_BOX_TOKEN: Invalid value"),
        ({"MAIL_BOX_HOTS": "h"}, "PEGBOARD_MAIL_BOX_HOTS is not a setting of mail-box; did you mean PEGBOARD_MAIL_BOX_HOST?"),
        ({"MAIL_BOX_HOTS_FILE": "h"}, "did you mean PEGBOARD_MAIL_BOX_HOST_FILE?"),
        ({"MAIL_BOX_NOTHING_NEAR": "h"}, "PEGBOARD_MAIL_BOX_NOTHING_NEAR is not a setting of mail-box"),
        ({"MAIL_BOX_HOST_FILE": "/nowhere"}, "PEGBOARD_MAIL_BOX_HOST_FILE: cannot read '/nowhere'"),
        ({"MAIL_BOX_HOST_FILE": "/nowhere", "MAIL_BOX_HOST": "h"}, "are both set: set one of them"),
    ],
)  # fmt: skip
def test_errors_name_their_variable(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**({"MAIL_BOX_HOST": "h"} if variables and "HOST" not in str(variables) else {}), **variables)
    error = str(caught.value)
    assert message in error
    assert "\n" not in error
    assert "wrong secret" not in error


def test_all_errors_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        read(MAIL_BOX_PORT="x", MAIL_BOX_SECURE="x")
    assert str(caught.value).count("PEGBOARD_MAIL_BOX_") == 3


def test_a_secret_can_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    assert read(MAIL_BOX_HOST="h", MAIL_BOX_TOKEN_FILE=str(tmp_path / "token"))["token"] == SECRET


def test_a_variable_belongs_to_the_longest_matching_plugin_name() -> None:
    values = read("mail", "mail-box", "mail-box-keys", MAIL_BOX_HOST="h", MAIL_BOX_KEYS_X="of the other")
    assert "keys_x" not in values


@pytest.mark.parametrize(
    ("name", "schema", "message"),
    [
        ("log", {"level": fields.String()}, "the setting PEGBOARD_LOG_LEVEL belongs to the service"),
        ("mail", {"key": fields.String(), "key_file": fields.String()}, "PEGBOARD_MAIL_KEY_FILE is the file"),
    ],
)
def test_setting_names_must_be_unambiguous(name: str, schema: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plugin_settings.read(type("Settings", (Schema,), schema), name, {})


LAMPS = """
from pegboard import Resource, Schema, fields

class Lamp(Schema):
    color = fields.String()

class Wiring(Schema):
    color = fields.String(required=True)
    amperes = fields.Integer(load_default=5)

class Lamps(Resource):
    "Lamps, whose color is set."
    schema = Lamp
    settings_schema = Wiring
    verbs = ("GET",)
    def parse_id(self, text): return text
    async def list(self, context):
        return [{"id": str(self.settings["amperes"]), "color": self.settings["color"]}]
"""


async def test_invalid_settings_disable_only_their_plugin(site: Site, serve: Serve) -> None:
    site.install("pegboard-lamps", LAMPS, "red-lamps", "blue-lamps", "lost-lamps", target="Lamps")
    environ = {
        "PEGBOARD_RED_LAMPS_COLOR": "red",
        "PEGBOARD_RED_LAMPS_AMPERES": "7",
        "PEGBOARD_BLUE_LAMPS_COLOR": "blue",
        "PEGBOARD_BLUE_LAMPS_AMPERE": "7",
    }
    plugins = discovery.discover(site.points(), environ=environ)
    errors = {plugin.name: plugin.error for plugin in plugins}
    assert errors == {
        "blue-lamps": "PEGBOARD_BLUE_LAMPS_AMPERE is not a setting of blue-lamps; did you mean PEGBOARD_BLUE_LAMPS_AMPERES?",
        "lost-lamps": "PEGBOARD_LOST_LAMPS_COLOR is not set: Missing data for required field",
        "red-lamps": None,
    }  # fmt: skip
    assert "red'" not in repr(plugins)
    api = await serve(plugins)
    assert (await api.get("/red-lamps")).json["items"] == [{"id": "7", "color": "red"}]
    assert (await api.get("/blue-lamps")).status == 503


def test_a_failing_schema_does_not_reveal_values(site: Site) -> None:
    broken = LAMPS.replace("class Wiring", "def no(value): raise LookupError(value)\n\nclass Wiring")
    broken = broken.replace("required=True", "validate=no")
    site.install("pegboard-lamps", broken, "lamps", target="Lamps")
    (found,) = discovery.discover(site.points(), environ={"PEGBOARD_LAMPS_COLOR": SECRET})
    assert (found.state, found.error) == (
        State.FAILED,
        "its settings cannot be read: its schema raised LookupError",
    )


def test_settings_must_be_a_schema() -> None:
    class Wrong(Resource):
        schema = Mail
        verbs = ("GET",)
        settings_schema = {"host": "h"}  # type: ignore[assignment]  # deliberately invalid

        async def list(self, context: Context) -> Any: ...

    assert "set settings_schema to a subclass of pegboard.Schema" in (problem(Wrong) or "")


def test_a_setting_needs_a_name_that_a_variable_can_have() -> None:
    class Odd(Schema):
        word = fields.String(data_key="other-word")

    with pytest.raises(SettingsError, match="PEGBOARD_MAIL_OTHER-WORD is not a name of a variable"):
        plugin_settings.read(Odd, "mail", {})


def test_variables_of_kubernetes_are_no_settings_of_a_plugin() -> None:
    variables = {
        "MAIL_BOX_SERVICE_HOST": "10.0.0.1",
        "MAIL_BOX_SERVICE_PORT_SMTP": "25",
        "MAIL_BOX_PORT": "tcp://10.0.0.1:25",
        "MAIL_BOX_PORT_25_TCP": "tcp://10.0.0.1:25",
        "MAIL_BOX_PORT_25_TCP_ADDR": "10.0.0.1",
    }
    assert read(MAIL_BOX_HOST="localhost", **variables)["port"] == 25
    with pytest.raises(SettingsError, match="PEGBOARD_MAIL_BOX_SERVICE_HOST is not a setting of mail-box"):
        read(MAIL_BOX_HOST="localhost", MAIL_BOX_SERVICE_HOST="here")


def test_a_declared_setting_with_the_name_of_a_variable_of_kubernetes_is_read() -> None:
    class Upstream(Schema):
        service_host = fields.String()

    environ = {"PEGBOARD_UPSTREAM_SERVICE_HOST": "10.0.0.1", "PEGBOARD_UPSTREAM_SERVICE_PORT": "80"}
    assert plugin_settings.read(Upstream, "upstream", environ) == {"service_host": "10.0.0.1"}
