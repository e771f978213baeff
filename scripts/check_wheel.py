"""Build the wheel, install it in an empty environment, and run the examples and unit tests on it.

    python scripts/check_wheel.py [--python PATH] [--wheel FILE]

With uv (named by $UV, or on PATH) the environment gets the versions of the lock file; without it
plain pip resolves what pyproject.toml asks for, as a user's `pip install` would. Exits with 0 when
all is well; every failure says what was expected.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("executor", "promises", "store", "durable")
COMMAND_LIMIT_S = 600
SHOWN_OUTPUT = 6000


class CheckFailedError(Exception):
    """The wheel is not what it should be; the message says in which way."""


def run(*command: str | Path, directory: Path) -> str:
    """Run a command outside the repository's reach and return what it printed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"}
    }
    words = [str(word) for word in command]
    done = subprocess.run(  # noqa: S603 - every word is this script's own
        words,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise CheckFailedError(
            f"{' '.join(words)}\nended with {done.returncode}:\n"
            f"{done.stdout[-SHOWN_OUTPUT:]}\n{done.stderr[-SHOWN_OUTPUT:]}"
        )
    return done.stdout


def find_uv() -> str | None:
    """Return the uv to use, or None to do without."""
    return os.environ.get("UV") or shutil.which("uv")


def run_uv(uv: str, *arguments: str | Path, directory: Path) -> None:
    """Run uv, and without a network once more from its cache alone."""
    try:
        run(uv, *arguments, directory=directory)
    except CheckFailedError:
        run(uv, "--offline", *arguments, directory=directory)


def build(work: Path) -> Path:
    """Build the wheel from the checkout and return its path."""
    out = work / "dist"
    if uv := find_uv():
        make = ("build", "--quiet", "--wheel", "--python", sys.executable)
        run_uv(uv, *make, "--out-dir", out, ROOT, directory=work)
    else:
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
        run(*pip, "--wheel-dir", out, ROOT, directory=work)
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1:
        raise CheckFailedError(f"expected one wheel, got {[wheel.name for wheel in wheels]}")
    return wheels[0]


def check_contents(wheel: Path) -> None:
    """Every file of the four packages is in the wheel, and nothing else but its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if missing := sorted(wanted - held):
        raise CheckFailedError(f"{wheel.name} lacks {missing}")
    if surplus := sorted(held - wanted):
        raise CheckFailedError(f"{wheel.name} holds what no package does: {surplus}")
    for package in PACKAGES:
        if f"{package}/py.typed" not in held:
            raise CheckFailedError(f"{package} has no py.typed: its types would be ignored")


def install(wheel: Path, interpreter: Path, work: Path) -> Path:
    """Make an empty environment, install the wheel and the test tools; return its bin."""
    home = work / "environment"
    binaries = home / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    wanted = f"{wheel}[dev]"
    if uv := find_uv():
        pins = work / "pins.txt"
        export = ("export", "--quiet", "--locked", "--no-hashes", "--no-emit-project")
        run_uv(uv, *export, "--extra", "dev", "--output-file", pins, directory=ROOT)
        run_uv(uv, "venv", "--quiet", "--python", interpreter, home, directory=work)
        pip = ("pip", "install", "--quiet", "--python", python)
        run_uv(uv, *pip, "--constraint", pins, wanted, directory=work)
    else:
        run(interpreter, "-m", "venv", home, directory=work)
        run(python, "-m", "pip", "install", "--quiet", wanted, directory=work)
    return binaries


def check_imports(binaries: Path, work: Path) -> None:
    """The packages are imported from the environment, not from the checkout."""
    code = f"import {', '.join(PACKAGES)}; print(*(m.__file__ for m in ({', '.join(PACKAGES)})))"
    for file in run(binaries / "python", "-c", code, directory=work).split():
        if not Path(file).is_relative_to(binaries.parent):
            raise CheckFailedError(f"imported {file}, which the wheel did not install")


def check_examples(binaries: Path, work: Path) -> None:
    """Both examples run to their end, and their results are in the database."""
    for name, field in (("stdlib_census.py", "files"), ("fetch_all.py", "documents")):
        example = work / "examples" / name
        command = (binaries / "sostenuto", "run", example, "--db", work / "runs.db")
        printed = run(*command, directory=work)
        record = json.loads(run(*command, "--json", directory=work))
        if record["state"] != "resolved" or record["result"][field] < 200:
            raise CheckFailedError(f"{name} ended as {record['state']} with {record['result']}")
        if f"'{field}': {record['result'][field]}" not in printed:
            raise CheckFailedError(f"{name} recorded {record['result']} and printed {printed}")
        print(f"{name}: {field} {record['result'][field]}, {record['duration_ms']} ms")


def check_unit_tests(binaries: Path, work: Path) -> None:
    """The unit tests pass on the installed packages."""
    tests = (binaries / "python", "-m", "pytest", "-m", "unit and not slow", "-q", "--no-header")
    tests += ("-n", "auto", "--dist", "worksteal")
    print(run(*tests, directory=work).strip().splitlines()[-1])


def main() -> int:
    """Check all of it and return the exit code."""
    parser = argparse.ArgumentParser(description="check the built wheel")
    parser.add_argument("--python", type=Path, default=sys.executable, metavar="PATH")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="check this one, build none")
    arguments = parser.parse_args()
    interpreter = arguments.python.absolute()
    with tempfile.TemporaryDirectory(prefix="sostenuto-wheel-") as name:
        work = Path(name)
        for folder in ("examples", "tests"):
            caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, work / folder, ignore=caches)
        shutil.copy(ROOT / "pyproject.toml", work)
        try:
            wheel = arguments.wheel.absolute() if arguments.wheel else build(work)
            check_contents(wheel)
            binaries = install(wheel, interpreter, work)
            check_imports(binaries, work)
            check_examples(binaries, work)
            check_unit_tests(binaries, work)
        except CheckFailedError as failure:
            print(f"check-wheel: {failure}", file=sys.stderr)
            return 1
    version = run(interpreter, "-V", directory=ROOT).strip()
    print(f"check-wheel: {wheel.name} is complete and works in an empty environment of {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
