"""The state of reading one code object: stack, names and stacks at jump targets."""

from __future__ import annotations

import dis
import inspect
from types import CodeType
from typing import Any

from executor.blocking_values import (
    Args,
    Const,
    Mapping,
    Scope,
    Sequence,
    Value,
    join,
)

__all__ = [
    "NULL",
    "Frame",
    "bind_arguments_of",
    "constant",
    "exception_entries",
    "instructions",
    "move",
]

NULL = Value()
"""The interpreter's empty slot beside a callable."""

_MOST_KEPT = 256


class Frame:
    """One function being read: its stack, its names, and the stacks at jump targets."""

    __slots__ = ("at_target", "code", "keyword_names", "scope", "stack", "until")

    def __init__(self, code: CodeType, scope: Scope) -> None:
        self.code = code
        self.scope = scope
        self.stack: list[Value | None] = []
        self.at_target: dict[int, list[Value | None]] = {}
        self.until = 0
        """The furthest forward jump: code before it may be skipped."""
        self.keyword_names: tuple[str, ...] = ()

    def pop(self) -> Value | None:
        """Take the top value; None where the reading lost it."""
        return self.stack.pop() if self.stack else None

    def pop_many(self, count: int) -> list[Value | None]:
        """Take the top values, the deepest first."""
        if count <= 0:
            return []
        taken = self.stack[-count:]
        del self.stack[-count:]
        return [None] * (count - len(taken)) + taken

    def push(self, value: Value | None) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def meet(self, remembered: list[Value | None], *, ended: bool) -> None:
        """Go on where a jump arrives: with its stack alone, or with what either path left."""
        if ended:
            self.stack = list(remembered)
        elif len(remembered) == len(self.stack):
            self.stack = [join(*pair) for pair in zip(remembered, self.stack, strict=True)]

    def bind(self, name: str, value: Value | None, offset: int) -> None:
        """Assign a name; where a jump may skip the assignment, it may also be what it was."""
        bound = self.scope.bound
        if offset < self.until and name in bound:
            value = join(bound[name], value)
        bound[name] = value


def exception_entries(code: CodeType) -> list[Any]:
    """The exception table's rows: target offset, stack depth, whether lasti is pushed."""
    entries: list[Any] = getattr(dis.Bytecode(code), "exception_entries", [])
    return entries


def constant(value: object) -> Value | None:
    """The value of a constant of a code object."""
    if type(value) is tuple:
        return Sequence([constant(item) for item in value])
    return Const(value)


def move(frame: Frame, instruction: dis.Instruction) -> None:
    """Only move the stack, for an instruction that makes nothing known."""
    effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
    if effect >= 0:
        if instruction.opname not in _KEEP_TOP and frame.stack and effect == 0:
            frame.stack[-1] = None
        frame.stack.extend([None] * effect)
    else:
        frame.pop_many(-effect)
        if instruction.opname in _REPLACE_TOP and frame.stack:
            frame.stack[-1] = None


_KEEP_TOP = frozenset(
    [
        "RESUME",
        "NOP",
        "CACHE",
        "GET_ITER",
        "COPY_FREE_VARS",
        "MAKE_CELL",
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "EXTENDED_ARG",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "CALL_INTRINSIC_1",
        "TO_BOOL",
        "NOT_TAKEN",
        "SETUP_ANNOTATIONS",
        "DELETE_FAST",
        "DELETE_NAME",
        "DELETE_GLOBAL",
        "DELETE_DEREF",
        "PRECALL",
        "GEN_START",
        "SEND",
    ]
)
_REPLACE_TOP = frozenset(
    ["COMPARE_OP", "IS_OP", "BINARY_SLICE", "BUILD_STRING", "FORMAT_WITH_SPEC"]
)


def bind_arguments_of(
    code: CodeType,
    scope: Scope,
    args: Args,
    defaults: list[Value | None],
    keyword_defaults: dict[str, Value | None],
) -> None:
    """Bind a call's arguments to a code object's parameters."""
    count, keyword_only = code.co_argcount, code.co_kwonlyargcount
    keywords = dict(args.keywords)
    first_default = count - len(defaults)
    for index, name in enumerate(code.co_varnames[:count]):
        if index < len(args.positional):
            scope.bound[name] = args.positional[index]
        elif name in keywords:
            scope.bound[name] = keywords.pop(name)
        elif index >= first_default and not args.open_ended:
            scope.bound[name] = defaults[index - first_default]
        else:
            scope.bound[name] = None
    for name in code.co_varnames[count : count + keyword_only]:
        scope.bound[name] = keywords.pop(name, keyword_defaults.get(name))
    position = count + keyword_only
    if code.co_flags & inspect.CO_VARARGS:
        rest = Sequence(args.positional[count:], complete=not args.open_ended)
        scope.bound[code.co_varnames[position]] = rest
        position += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        scope.bound[code.co_varnames[position]] = Mapping(dict(keywords))


_kept_instructions: dict[int, tuple[CodeType, list[dis.Instruction]]] = {}


def instructions(code: CodeType) -> list[dis.Instruction]:
    """A code object's instructions, kept for the codes met last."""
    kept = _kept_instructions.get(id(code))
    if kept is None or kept[0] is not code:
        kept = _kept_instructions[id(code)] = (code, list(dis.get_instructions(code)))
        if len(_kept_instructions) > _MOST_KEPT:
            del _kept_instructions[next(iter(_kept_instructions))]
    return kept[1]
