"""The container files, checked against the service without running a container engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pegboard import errors
from pegboard.settings import SETTINGS, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
PROXIES = {name: (ROOT / "deploy" / name).read_text() for name in ("haproxy.cfg", "Caddyfile")}


@pytest.mark.parametrize("text", [DOCKERFILE, COMPOSE], ids=["Dockerfile", "docker-compose.yml"])
def test_deployment_files_use_only_existing_settings(text: str) -> None:
    variables = {name for setting in SETTINGS for name in (setting.variable, setting.file_variable)}
    named = set(re.findall(r"\bPEGBOARD_[A-Z_]+", text))
    assert named
    assert named <= variables


def test_the_stop_grace_period_covers_running_requests() -> None:
    grace = re.search(r"x-service:.*?\n  stop_grace_period: (\d+)s", COMPOSE, re.DOTALL)
    drain = re.search(r"PEGBOARD_DRAIN_SECONDS: (\d+)", COMPOSE)
    assert grace
    assert drain
    assert int(grace[1]) >= int(drain[1]) + Settings().shutdown_timeout + 5


@pytest.mark.parametrize("proxy", PROXIES)
def test_error_responses_of_proxies_have_the_format_and_codes_of_the_service(proxy: str) -> None:
    bodies = [json.loads(body) for body in re.findall(r"""[`']({"errors":.*})[`']""", PROXIES[proxy])]
    assert len(bodies) >= 3
    codes = {code.code for code in errors.CATALOGUE}
    for body in bodies:
        assert all(entry["code"] in codes and entry["message"] for entry in body["errors"])


def test_the_image_runs_as_the_owner_of_the_secrets() -> None:
    match = re.search(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)
    assert match
    assert f"PEGBOARD, POSTGRES = {match[1]}, 999" in COMPOSE


def test_secrets_are_generated_once(tmp_path: Path) -> None:
    script = re.search(r"    command:\n      - \|\n(.*?)\n    deploy:", COMPOSE, re.DOTALL)
    assert script
    # Only root may change the owner of a file.
    program = textwrap.dedent(script[1]).replace("os.chown(", "(lambda *_: None)(")
    for folder in ("secrets", "setup"):
        (tmp_path / folder).mkdir()
        program = program.replace(f'"/{folder}/', f'"{tmp_path}/{folder}/')

    def run() -> dict[str, str]:
        command = [sys.executable, "-c", program]
        environment = os.environ | {"PUBLISH": "127.0.0.1:8080"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "http://127.0.0.1:8080" in done.stdout
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o400}
        found = {path.name: path.read_text() for path in files}
        assert not any(secret.strip() in done.stdout for secret in found.values())
        return found

    first = run()
    assert first.keys() == {"admin-password", "database-url", "postgres-password", "database.sql"}
    assert run() == first
    settings = Settings.load(
        {
            "PEGBOARD_DATABASE_URL_FILE": str(tmp_path / "secrets/database-url"),
            "PEGBOARD_ADMIN_PASSWORD_FILE": str(tmp_path / "secrets/admin-password"),
        }
    )
    match = re.fullmatch(r"postgresql://pegboard:([0-9a-f]{48})@postgres/pegboard", settings.database_url or "")
    assert match
    assert f"PASSWORD '{match[1]}'" in first["database.sql"]
    # An interrupted run is completed by the next.
    (tmp_path / "setup/database.sql").unlink()
    assert run().keys() == first.keys()
