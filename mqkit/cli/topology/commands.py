"""Puts the commands of `mqkit topology` together."""

from __future__ import annotations

import typer

from mqkit.cli.topology.describe import export, graph, permissions
from mqkit.cli.topology.plan import apply, plan

app = typer.Typer(
    help="Compare what services declare with a broker, and bring it there.", no_args_is_help=True
)
app.command()(plan)
app.command()(apply)
app.command()(graph)
app.command()(export)
app.command()(permissions)
