from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.command import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A directory of a user's own, to run commands in."""
    made = Shell(tmp_path)
    yield made
    made.close()
