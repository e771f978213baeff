"""Where in a code object an exception can be raised without breaking what the code set up.

An exception raised at an arbitrary instruction can skip a ``finally`` block or an ``__exit__``:
the exception table covers only instructions that CPython expects to raise. CPython itself delivers
``KeyboardInterrupt`` at backward jumps and after calls; a debugger's trace function raises at line
starts. The same places are chosen here. ``JUMP`` and ``BRANCH`` events of ``sys.monitoring`` would
be simpler, but an exception they raise runs no ``finally`` block on CPython 3.12 and 3.13.
"""

import dis
from types import CodeType
from typing import NamedTuple

# Binding instructions: where code that was given up must be stopped in any case.
_BINDING = frozenset(
    {
        "STORE_NAME",
        "STORE_GLOBAL",
        "STORE_ATTR",
        "STORE_SUBSCR",
        "STORE_SLICE",
        "DELETE_NAME",
        "DELETE_GLOBAL",
        "DELETE_ATTR",
        "DELETE_SUBSCR",
    }
)
# Not JUMP_BACKWARD_NO_INTERRUPT, which goes round inside an await: an exception belongs into the
# awaited object there, where cancelling puts it.
_BACKWARD = "JUMP_BACKWARD"
# What stands between a call and the next real instruction.
_PREFIXES = frozenset({"EXTENDED_ARG", "CACHE", "NOP"})
# The way out of a handler: the exception state is half restored there.
_UNSAFE = frozenset(
    {
        "PUSH_EXC_INFO",
        "POP_EXCEPT",
        "RERAISE",
        "COPY",
        "SWAP",
        "CLEANUP_THROW",
        "END_ASYNC_FOR",
        "END_SEND",
        "WITH_EXCEPT_START",
        "CHECK_EXC_MATCH",
        "CHECK_EG_MATCH",
        "RESUME",
        "RETURN_GENERATOR",
        "COPY_FREE_VARS",
        "MAKE_CELL",
        "SEND",
        "YIELD_VALUE",
        "JUMP_BACKWARD_NO_INTERRUPT",
    }
)


class SafePoints(NamedTuple):
    """Bytecode offsets of one code object.

    Attributes:
        gentle: Where an interrupt lets every ``finally`` and ``__exit__`` run.
        firm: The same and every instruction that binds a name, an attribute or an item.
    """

    gentle: frozenset[int]
    firm: frozenset[int]


def safe_points(code: CodeType) -> SafePoints:
    """Find the safe points of a code object; reads it and changes nothing."""
    instructions = list(dis.get_instructions(code))
    gentle: set[int] = set()
    binding: set[int] = set()
    after_call = False
    line: int | None = None
    for index, instruction in enumerate(instructions):
        name = instruction.opname
        if name == "PUSH_EXC_INFO":
            line = None  # a handler's first line starts anew, whatever code stands before it
        here = instruction.positions.lineno if instruction.positions is not None else None
        starts_line = here not in (None, line)
        line = line if here is None else here
        if name in _BINDING:
            binding.add(instruction.offset)
        if here is not None and (
            name == _BACKWARD
            or (
                (starts_line or after_call)
                and name not in _UNSAFE
                and not _leaves_with(instructions, index)
            )
        ):
            gentle.add(instruction.offset)
        if name not in _PREFIXES:
            after_call = name.startswith("CALL") and not name.startswith("CALL_INTRINSIC")
    return SafePoints(frozenset(gentle), frozenset(gentle | binding))


def _leaves_with(instructions: list[dis.Instruction], index: int) -> bool:
    """Whether ``__exit__(None, None, None)`` is being prepared: to raise would skip the call."""
    loads = instructions[index : index + 3]
    return len(loads) == 3 and all(
        load.opname in ("LOAD_CONST", "RETURN_CONST") and load.argval is None for load in loads
    )
