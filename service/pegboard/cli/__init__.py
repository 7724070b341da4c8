"""The command line: `pegboard` and its commands."""

from __future__ import annotations

from importlib.metadata import version

import click

from pegboard.cli import checking, clients, drafts, migrations, plugins, removal, scaffolding, serving
from pegboard.cli.console import Commands
from pegboard.telemetry import logs


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("pegboard"), message="%(prog)s %(version)s")
def main() -> None:
    """Run and manage a Pegboard service. Settings come from PEGBOARD_* in the environment."""
    # Commands report their errors themselves; only a service has a log.
    logs.configure("critical", "text")


for command in (
    serving.serve,
    serving.healthcheck,
    migrations.migrate,
    drafts.make_migration,
    plugins.plugins,
    plugins.openapi,
    checking.check,
    scaffolding.new_plugin,
    removal.remove_plugin,
    clients.client,
):
    main.add_command(command)
