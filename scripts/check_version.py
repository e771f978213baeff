"""Check that a release's tag names the version, which stands in pyproject.toml and nowhere else.

    python scripts/check_version.py v1.2.3

The change log must have an entry of that version.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(tag: str, project: str, changelog: str) -> list[str]:
    """Return what is wrong with releasing under a tag, one sentence each."""
    version = tomllib.loads(project)["project"]["version"]
    found = []
    if tag != f"v{version}":
        found.append(f"the tag {tag!r} should be 'v{version}': pyproject.toml has {version}")
    if not re.search(rf"^## \[?{re.escape(version)}\]?( |$)", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no '## {version}': name what is Unreleased")
    return found


def main(arguments: list[str]) -> int:
    """Print what is wrong; the exit code says whether anything is."""
    if len(arguments) != 1:
        print("usage: check_version.py TAG", file=sys.stderr)
        return 2
    project, changelog = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CHANGELOG.md")
    )
    found = problems(arguments[0], project, changelog)
    for problem in found:
        print(f"check_version: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
