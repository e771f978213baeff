"""Importing without the pauses of the cyclic garbage collector."""

from __future__ import annotations

import gc
from importlib import import_module
from types import ModuleType

__all__ = ["load"]


def load(module: str) -> ModuleType:
    """Import a module while the collector rests.

    A resumed process imports the SDK before anything else, and imports make objects that stay:
    the collector looks through all of them again and again and finds nothing, which is a tenth of
    the time to the first new step.

    Args:
        module: Its full name.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if collecting:
            gc.enable()
