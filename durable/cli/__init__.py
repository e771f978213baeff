"""The ``sostenuto`` command."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from durable.cli.exits import Exit, ExitCode

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0 done, 1 the code raised, 2 wrong usage, 3 store or engine unreachable, "
    "4 suspended (waiting on something that is not due), 124 timed out, 130 interrupted."
)

app = typer.Typer(
    name="sostenuto",
    help="Top-level await that survives kill -9: run Python source durably on one SQLite file.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="FILE|URL",
        help="Database file or engine URL. Default: $SOSTENUTO_DB, else runs.db in the per-user "
        "data directory.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with stable field names.")]


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"sostenuto {version('sostenuto')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Top-level await that survives kill -9: run Python source durably on one SQLite file."""


@app.command(
    epilog="Examples: sostenuto run report.py | sostenuto run report.py --id report-1 --db runs.db "
    "| sostenuto run -c 'await ctx.sleep(1)' | cat job.py | sostenuto run -"
)
def run(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A Python file, or - for standard input.")
    ] = None,
    code: Annotated[
        str | None, typer.Option("-c", metavar="CODE", help="Run this source text.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Execution id. Default: derived from the file's resolved path."),
    ] = None,
    db: Database = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            help="Durable timeout of a new execution, such as 90, 5m, 2h or 1d.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Start a fresh run although the id has one; the old record stays in its history.",
        ),
    ] = False,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="DURATION|forever",
            help="How long to wait for a promise that only others settle, or a sleep that ends in "
            "over ten minutes, before giving the execution back with exit code 4. Default: forever "
            "on a terminal, 5 seconds elsewhere.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json: AsJson = False,
) -> None:
    """Run a file of Python with top-level await, durably.

    In it, [bold]await ctx.run(fn, *args)[/bold] is a durable step and
    [bold]await ctx.sleep(s)[/bold] a durable sleep. Kill the command at any moment and run it
    again: steps that were done are answered from the store, the rest runs. A finished execution
    prints its recorded result.
    """
    from durable.cli.run import RunRequest, run_command

    run_command(
        RunRequest(
            file=file,
            code=code,
            id=id,
            db=db,
            timeout=timeout,
            force=force,
            wait=wait,
            quiet=quiet,
            json=json,
        )
    )


@app.command("ls", epilog="Examples: sostenuto ls --state pending | sostenuto ls --json")
def list_executions(
    db: Database = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            help="pending, resolved, rejected, rejected_canceled or rejected_timedout.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Registered function name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    json: AsJson = False,
) -> None:
    """List executions, the newest first."""
    from durable.cli.inspect import list_command

    list_command(db, state=state, name=name, limit=limit, json=json)


@app.command(epilog="Example: sostenuto show report-1 --json")
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Execution or promise id.")],
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Show one execution: source, state, result, error with notes, steps with timings."""
    from durable.cli.inspect import show_command

    show_command(db, id, json=json)


@app.command(epilog="Example: sostenuto tree report-1")
def tree(
    id: Annotated[str, typer.Argument(metavar="ID", help="Execution id.")],
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Show the call graph of an execution's durable promises, with states and durations."""
    from durable.cli.inspect import tree_command

    tree_command(db, id, json=json)


@app.command(epilog="""Example: sostenuto resolve approval-42 --value '{"ok": true}'""")
def resolve(
    id: Annotated[str, typer.Argument(metavar="ID", help="Promise id.")],
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="JSON", help="The value, as JSON. Default: null."),
    ] = None,
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Resolve a durable promise; whoever awaits it wakes."""
    from durable.cli.settle import settle_command

    settle_command(db, id, "resolve", value, json=json)


@app.command(epilog="""Example: sostenuto reject approval-42 --value '"too expensive"'""")
def reject(
    id: Annotated[str, typer.Argument(metavar="ID", help="Promise id.")],
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="JSON", help="The reason: a JSON string, or any JSON."),
    ] = None,
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Reject a durable promise; whoever awaits it gets the error."""
    from durable.cli.settle import settle_command

    settle_command(db, id, "reject", value, json=json)


@app.command(epilog="Example: sostenuto cancel report-1 --reason 'no longer needed'")
def cancel(
    id: Annotated[str, typer.Argument(metavar="ID", help="Execution or promise id.")],
    reason: Annotated[str, typer.Option("--reason", help="A line for the record.")] = "",
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Cancel an execution or promise; running code is stopped."""
    from durable.cli.settle import settle_command

    settle_command(db, id, "cancel", reason, json=json)


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; ends the process with a documented exit code."""
    try:
        app(args=argv, prog_name="sostenuto", standalone_mode=True)
    except Exit as end:
        if end.message:
            print(f"sostenuto: {end.message}", file=sys.stderr)
        sys.exit(int(end.code))
    except KeyboardInterrupt:
        print("sostenuto: interrupted", file=sys.stderr)
        sys.exit(int(ExitCode.INTERRUPTED))
