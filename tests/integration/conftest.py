from __future__ import annotations

from pathlib import Path

import pytest
from integration.command import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A directory of a user's own, to run commands in."""
    return Shell(tmp_path)
