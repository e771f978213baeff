"""The ``sostenuto`` command."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Annotated, Any

import typer

from durable.cli.exits import Exit, ExitCode

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0 done, 1 the code raised, 2 wrong usage, 3 store or engine unreachable, "
    "4 suspended (waiting on something that is not due), 124 timed out, 130 interrupted."
)


def _examples(*commands: str) -> str:
    """Return an epilog that keeps each command on a line of its own."""
    return "\n\n".join([f"Example{'' if len(commands) == 1 else 's'}:", *commands])


app = typer.Typer(
    name="sostenuto",
    help="Top-level await that survives kill -9: run Python source durably on one SQLite file.",
    epilog=EPILOG,
    no_args_is_help=True,
    # Loading rich takes longer than all the rest of the help: boxes and colours are for terminals.
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
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
    epilog=_examples(
        "sostenuto run report.py",
        "sostenuto run report.py --id report-1 --db runs.db",
        "sostenuto run -c 'await ctx.sleep(1)'",
        "cat job.py | sostenuto run -",
    )
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

    In it, await ctx.run(fn, *args) is a durable step and await ctx.sleep(s) a durable sleep.
    Kill the command at any moment and run it again: steps that were done are answered from the
    store, the rest runs. A finished execution prints its recorded result.
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


@app.command(
    "ls",
    epilog=_examples(
        "sostenuto ls --state pending",
        "sostenuto ls --name 'report*' --newer-than 1d --sort duration",
        "sostenuto ls --json",
    ),
)
def list_executions(
    db: Database = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="pending, resolved, rejected, rejected_canceled or rejected_timedout; "
            "may be given several times.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="PATTERN", help="Function or file name, such as 'report*'."),
    ] = None,
    newer_than: Annotated[
        str | None,
        typer.Option("--newer-than", metavar="AGE", help="Created in the last 90, 5m, 2h, 1d..."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Created before that.")
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="created, settled, duration, id, name or state.")
    ] = "created",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    json: AsJson = False,
) -> None:
    """List executions, the newest first."""
    from durable.cli.listing import ListRequest, list_command

    list_command(
        ListRequest(
            db=db,
            state=state or [],
            name=name,
            newer_than=newer_than,
            older_than=older_than,
            sort=sort,
            reverse=reverse,
            limit=limit,
            json=json,
        )
    )


@app.command(epilog=_examples("sostenuto show report-1 --json"))
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Execution or promise id.")],
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Show one execution: source, result, error, steps with timings."""
    from durable.cli.inspect import show_command

    show_command(db, id, json=json)


@app.command(epilog=_examples("sostenuto tree report-1", "sostenuto tree report-1 --watch"))
def tree(
    id: Annotated[str, typer.Argument(metavar="ID", help="Execution id.")],
    db: Database = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it, in whatever process it runs.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the call graph of an execution, with states and durations."""
    from durable.cli.inspect import tree_command

    tree_command(db, id, json=json, watch=watch)


@app.command(epilog=_examples("sostenuto resolve approval-42 --value '{\"ok\": true}'"))
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


@app.command(epilog=_examples("sostenuto reject approval-42 --value '\"too expensive\"'"))
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


@app.command(epilog=_examples("sostenuto cancel report-1 --reason 'no longer needed'"))
def cancel(
    id: Annotated[str, typer.Argument(metavar="ID", help="Execution or promise id.")],
    reason: Annotated[str, typer.Option("--reason", help="A line for the record.")] = "",
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Cancel an execution or promise; running code is stopped."""
    from durable.cli.settle import settle_command

    settle_command(db, id, "cancel", reason, json=json)


@app.command(
    epilog=_examples(
        "sostenuto replay report-1",
        "sostenuto replay histories/report-1.json",
        "sostenuto replay order-7 --app shop:app",
    )
)
def replay(
    id: Annotated[
        str, typer.Argument(metavar="ID|FILE.json", help="Execution id, or an exported history.")
    ],
    db: Database = None,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:NAME",
            help="The Durable app whose functions are the code. Executions of source need none.",
        ),
    ] = None,
    limit: Annotated[
        str,
        typer.Option("--limit", metavar="DURATION", help="How long code outside steps may take."),
    ] = "60",
    json: AsJson = False,
) -> None:
    """Run recorded code against its record; nothing is written and no step is executed.

    Exit code 0: it does what the record says. 1: it differs, and where.
    """
    from durable.cli.replays import replay_command

    replay_command(id, db, app=app, limit=limit, json=json)


@app.command(
    epilog=_examples(
        "sostenuto export report-1 > report-1.json", "sostenuto export --all --output histories/"
    )
)
def export(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Execution ids.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE|DIRECTORY", help="Default: standard output."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every execution.")] = False,
    state: Annotated[
        str | None, typer.Option("--state", help="With --all: only those in this state.")
    ] = None,
    db: Database = None,
    json: AsJson = False,
) -> None:
    """Write executions with all their steps as JSON documents, to keep, test with or import."""
    from durable.cli.transfer import ExportRequest, export_command

    export_command(
        ExportRequest(ids=ids or [], all=everything, state=state, output=output, db=db, json=json)
    )


@app.command(
    "import",
    epilog=_examples(
        "sostenuto import report-1.json --to runs.db",
        "sostenuto import histories/ --to postgresql://localhost/runs",
    ),
)
def import_histories(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|DIRECTORY...", help="Exported histories; - reads one."),
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", "--db", metavar="FILE|URL", help="Where to. Default: as for run."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write exported executions to a database or engine; open ones go on there."""
    from durable.cli.transfer import import_command

    import_command(files, to, json=json)


@app.command(
    epilog=_examples(
        "sostenuto gc --older-than 30d",
        "sostenuto gc --older-than 30d --yes",
        "sostenuto gc --vacuum --yes",
    )
)
def gc(
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Ended at least this long ago: 12h, 30d."),
    ] = None,
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="Rewrite the file, so that it becomes smaller. Other processes may have it open; "
            "their writes wait meanwhile.",
        ),
    ] = False,
    db: Database = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it. Without it, only say what would go.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Delete executions that ended long ago, with all their steps; by default a dry run."""
    from durable.cli.upkeep import GcRequest, gc_command

    gc_command(GcRequest(db=db, older_than=older_than, vacuum=vacuum, yes=yes, json=json))


@app.command(epilog=_examples("sostenuto backup copies/runs-monday.db --db runs.db"))
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    db: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: AsJson = False,
) -> None:
    """Copy the database as it is at one moment, while it is in use."""
    from durable.cli.upkeep import backup_command

    backup_command(file, db, force=force, json=json)


@app.command(epilog=_examples("sostenuto doctor", "sostenuto doctor --db runs.db --json"))
def doctor(db: Database = None, json: AsJson = False) -> None:
    """Check the installation and the store, and say what to do about what is wrong."""
    from durable.cli.doctor import doctor_command

    doctor_command(db, json=json)


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; ends the process with a documented exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Text of a record is shown as well as the terminal's encoding can.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(argv)
        sys.stdout.flush()
    except OSError as error:
        code = _output_lost(error)
    sys.exit(code)


def _run(argv: list[str] | None) -> int:
    """Run one command and return its exit code."""
    try:
        app(args=argv, prog_name="sostenuto", standalone_mode=True)
    except Exit as end:
        if end.message:
            print(f"sostenuto: {end.message}", file=sys.stderr)
        return int(end.code)
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C
            print("sostenuto: interrupted", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return int(ExitCode.DONE)


def _output_lost(error: OSError) -> int:
    """Say that output could not be written, and keep the interpreter from trying again."""
    from durable.cli.output import loss_text

    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        print(f"sostenuto: {loss_text(error)}", file=sys.stderr)
    return int(ExitCode.RAISED)
