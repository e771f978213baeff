"""A release's tag names the version of pyproject.toml, and the change log has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_version.py"
PROJECT = '[project]\nversion = "1.2.3"\n'


@pytest.mark.parametrize(
    ("tag", "changelog", "found"),
    [
        ("v1.2.3", "## 1.2.3 - 2027-01-01\n", 0),
        ("v1.2.3", "# Changelog\n\n## [1.2.3]\n", 0),
        ("v1.2.4", "## 1.2.3\n", 1),
        ("1.2.3", "## 1.2.3\n", 1),
        ("v1.2.3", "## Unreleased\n", 1),
        ("v1.2.3", "## 1.2.30\n", 1),
        ("v9", "", 2),
    ],
)
def test_a_tag_fits_its_version_and_change_log(tag: str, changelog: str, found: int) -> None:
    spec = importlib.util.spec_from_file_location("check_version", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.problems(tag, PROJECT, changelog)) == found
