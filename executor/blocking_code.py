"""Follows functions of earlier cells whose source is not at hand, by their code.

A code object is read once from its first instruction to its last, with a stack
of values in place of the interpreter's. Both sides of a branch are read; what
a name is after one is what it could be after either. The stack's depth at a
jump's target is kept from the jump, so the reading stays aligned over every
construct; an instruction that is not listed only moves the stack by what
:func:`dis.stack_effect` says.
"""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType

from executor.blocking_frames import (
    NULL,
    Frame,
    bind_arguments_of,
    constant,
    exception_entries,
    instructions,
    move,
)
from executor.blocking_statements import Statements
from executor.blocking_values import (
    Args,
    Const,
    Coroutine,
    Iterable,
    Lazy,
    LiveClass,
    LiveInstance,
    LiveIterator,
    Mapping,
    Native,
    Object,
    Ref,
    Scope,
    Sequence,
    Value,
    join,
)

__all__ = ["Followed"]

_MOST_KEPT = 256
_ENDS = frozenset(
    [
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
    ]
)


type _Step = Callable[["Followed", Frame, dis.Instruction], None]


class Followed(Statements):
    """The whole analysis: syntax trees, and code objects where there is no tree."""

    def run_code(self, function: FunctionType, args: Args) -> Value | None:
        """Follow a live function by its code object."""
        defaults = [self.live.read(value) for value in function.__defaults__ or ()]
        named = function.__kwdefaults__ or {}
        keyword_defaults = {name: self.live.read(value) for name, value in named.items()}
        scope = self._live_scope(function)
        made = self._code_function(function.__code__, scope, defaults, keyword_defaults)
        fixed, self.line_is_fixed = self.line_is_fixed, True
        try:
            return made.call(args)
        finally:
            self.line_is_fixed = fixed

    def consume_live(self, iterator: LiveIterator) -> Value | None:
        """Follow what consuming an iterator of an earlier cell does."""
        live = iterator.iterator
        if type(live) is map:
            function = map.__reduce__(live)[1][0]
            return self.call(self.live.read(function), Args([], open_ended=True))
        frame = live.gi_frame
        if frame is None or live.gi_running:
            return None
        bound = {name: self.live.read(value) for name, value in dict(frame.f_locals).items()}
        scope = Scope(self.global_scope(frame.f_globals), bound)
        fixed, self.line_is_fixed = self.line_is_fixed, True
        try:
            return self._code_function(frame.f_code, scope, [], {}, consumed=True).call(Args([]))
        finally:
            self.line_is_fixed = fixed

    def _code_function(
        self,
        code: CodeType,
        scope: Scope,
        defaults: list[Value | None],
        keyword_defaults: dict[str, Value | None],
        *,
        consumed: bool = False,
    ) -> Native:
        """A callable that reads a code object when it is called or consumed."""

        def run(args: Args) -> Value | None:
            key = ("code", id(code), id(scope), *map(id, args.positional))
            if key in self._results:
                return self._results[key]
            again = sum(entry[:2] == key[:2] for entry in self._following)
            if self.budget <= 0 or again > 2 or len(self._following) >= 16:
                return None
            self._kept.append((code, scope, args))
            inner = Scope(scope)
            if not consumed:
                bind_arguments_of(code, inner, args, defaults, keyword_defaults)
            here, self.scope = self.scope, inner
            self._following.append(key)
            try:
                self._read(Frame(code, inner))
            finally:
                self._following.pop()
                self.scope = here
            result: Value | None = None
            for index, value in enumerate(inner.yielded or inner.returned):
                result = value if index == 0 else join(result, value)
            self._results[key] = result
            return result

        if consumed:
            return Native(run)
        if code.co_flags & inspect.CO_COROUTINE:
            return Native(lambda args: Coroutine(lambda: run(args)))
        if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
            return Native(lambda args: Lazy(lambda: run(args)))
        return Native(run)

    def _read(self, frame: Frame) -> None:
        """Read a function's instructions from first to last."""
        handlers = {
            entry.target: entry.depth + bool(entry.lasti) for entry in exception_entries(frame.code)
        }
        ended = False
        for instruction in instructions(frame.code):
            self.budget -= 1
            if self.budget <= -_MOST_KEPT:
                return
            offset = instruction.offset
            if offset in handlers:
                depth = handlers[offset]
                padding: list[Value | None] = [None] * max(0, depth - len(frame.stack))
                frame.stack = [*frame.stack[:depth], *padding, None]
            elif offset in frame.at_target:
                frame.meet(frame.at_target[offset], ended=ended)
            name = instruction.opname
            step = _STEPS.get(name)
            if name in _JUMPS:
                self._remember_jump(frame, instruction)
            if step is not None:
                step(self, frame, instruction)
            else:
                move(frame, instruction)
            ended = name in _ENDS

    def _remember_jump(self, frame: Frame, instruction: dis.Instruction) -> None:
        target = instruction.argval
        if type(target) is not int:
            return
        if target > instruction.offset:
            frame.until = max(frame.until, target)
        effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=True)
        stack = list(frame.stack)
        while effect < 0 and stack:
            stack.pop()
            effect += 1
        frame.at_target.setdefault(target, stack + [None] * max(0, effect))

    # -------------------------------------------------------------- instructions

    def _load_name(self, frame: Frame, instruction: dis.Instruction) -> None:
        null = instruction.opname == "LOAD_GLOBAL" and (instruction.arg or 0) & 1
        value = self.look_up(instruction.argval)
        if null and instruction.argrepr.startswith("NULL"):  # below the callable until 3.12
            frame.push(NULL)
            frame.push(value)
            return
        frame.push(value)
        if null:
            frame.push(NULL)

    def _load_pair(self, frame: Frame, instruction: dis.Instruction) -> None:
        for name in instruction.argval:
            frame.push(self.look_up(name))

    def _load_const(self, frame: Frame, instruction: dis.Instruction) -> None:
        frame.push(constant(instruction.argval))

    def _store(self, frame: Frame, instruction: dis.Instruction) -> None:
        frame.bind(instruction.argval, frame.pop(), instruction.offset)

    def _store_global(self, frame: Frame, instruction: dis.Instruction) -> None:
        self.module_of(self.scope).bound[instruction.argval] = frame.pop()

    def _store_deref(self, frame: Frame, instruction: dis.Instruction) -> None:
        value, name = frame.pop(), instruction.argval
        scope: Scope | None = frame.scope
        if name in frame.code.co_freevars:
            scope = frame.scope.parent
            while scope is not None and name not in scope.bound:
                scope = scope.parent
        (scope or frame.scope).bound[name] = value

    def _store_pair(self, frame: Frame, instruction: dis.Instruction) -> None:
        first, second = instruction.argval
        frame.bind(first, frame.pop(), instruction.offset)
        if instruction.opname == "STORE_FAST_LOAD_FAST":
            frame.push(self.look_up(second))
        else:
            frame.bind(second, frame.pop(), instruction.offset)

    def _load_attribute(self, frame: Frame, instruction: dis.Instruction) -> None:
        frame.push(self.attribute(frame.pop(), instruction.argval))
        if (instruction.arg or 0) & 1:
            frame.push(NULL)

    def _load_super(self, frame: Frame, instruction: dis.Instruction) -> None:
        _, cls, instance = frame.pop_many(3)
        value: Value | None = None
        bases = (
            [LiveClass(base) for base in cls.cls.__mro__[1:-1]]
            if isinstance(cls, LiveClass)
            else []
        )
        for base in bases:
            member = self.class_member(base, instruction.argval)
            found = self._bind(member, instance, base)
            if found is not None:
                value = found
                break
        else:
            inherited = getattr(instance, "rule_instance", None)
            if inherited is not None:
                value = self.rule_attribute(inherited, instruction.argval)
        frame.push(value)
        if (instruction.arg or 0) & 1:
            frame.push(NULL)

    def _store_attribute(self, frame: Frame, instruction: dis.Instruction) -> None:
        owner, value = frame.pop(), frame.pop()
        self._assign_attribute(owner, instruction.argval, value)

    def _subscript_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        key, owner = frame.pop(), frame.pop()
        frame.push(self.subscript(owner, key))

    def _store_subscript(self, frame: Frame, instruction: dis.Instruction) -> None:
        key, owner, value = frame.pop(), frame.pop(), frame.pop()
        self._assign_item(owner, key, value)

    def _binary(self, frame: Frame, instruction: dis.Instruction) -> None:
        right, left = frame.pop(), frame.pop()
        if instruction.argrepr == "[]":
            frame.push(self.subscript(left, right))
            return
        op = _BINARY.get(instruction.argrepr.removesuffix("="))
        frame.push(None if op is None else self.operator(op, left, right))

    def _contains(self, frame: Frame, instruction: dis.Instruction) -> None:
        right, left = frame.pop(), frame.pop()
        if isinstance(right, Object | LiveInstance):
            self.call_dunder(right, "__contains__", Args([left]))
        elif not isinstance(right, Sequence | Mapping):
            self.iterate(right)
        frame.push(None)

    def _format(self, frame: Frame, instruction: dis.Instruction) -> None:
        name, flags = instruction.opname, instruction.arg or 0
        if name == "FORMAT_WITH_SPEC" or (name == "FORMAT_VALUE" and flags & 4):
            frame.pop()
        conversion = "" if name in ("FORMAT_SIMPLE", "FORMAT_WITH_SPEC") else " sra"[flags & 3]
        self.show(frame.pop(), conversion.strip())
        frame.push(None)

    def _for_iter(self, frame: Frame, instruction: dis.Instruction) -> None:
        frame.push(self.iterate(frame.stack[-1]) if frame.stack else None)

    def _keyword_names(self, frame: Frame, instruction: dis.Instruction) -> None:
        value = instruction.argval
        frame.keyword_names = value if type(value) is tuple else ()

    def _call_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        names = frame.keyword_names
        frame.keyword_names = ()
        if instruction.opname == "CALL_KW":
            given = frame.pop()
            names = tuple(
                item.value
                for item in (given.items if isinstance(given, Sequence) else ())
                if isinstance(item, Const)
            )
        taken = frame.pop_many(instruction.arg or 0)
        second, first = frame.pop(), frame.pop()
        split = len(taken) - len(names)
        positional, keywords = taken[:split], dict(zip(names, taken[split:], strict=False))
        function = second if first is NULL else first
        if first is not NULL and second is not NULL:
            positional = [second, *positional]
        if isinstance(function, Ref) and function.path == "super" and not positional:
            frame.push(None)
            return
        frame.push(self.call(function, Args(positional, keywords)))

    def _call_spread(self, frame: Frame, instruction: dis.Instruction) -> None:
        """``f(*args, **kwargs)``; where the empty slot stands differs between versions."""
        has_keywords = instruction.opname == "CALL_FUNCTION_EX" and (
            (instruction.arg or 0) & 1 or _SPREAD_ALWAYS_HAS_KEYWORDS
        )
        keywords = frame.pop() if has_keywords else None
        positional = frame.pop()
        second, first = frame.pop(), frame.pop()
        function = second if first is NULL else first
        items = positional.items if isinstance(positional, Sequence) else [self.iterate(positional)]
        named = {}
        if isinstance(keywords, Mapping):
            named = {k: v for k, v in keywords.entries.items() if type(k) is str}
        whole = isinstance(positional, Sequence) and positional.complete
        frame.push(self.call(function, Args(list(items), named, open_ended=not whole)))

    def _build(self, frame: Frame, instruction: dis.Instruction) -> None:
        items = frame.pop_many(instruction.arg or 0)
        for item in items if instruction.opname == "BUILD_SET" else ():
            self.call_dunder(item, "__hash__")
        frame.push(Sequence(items))

    def _build_map(self, frame: Frame, instruction: dis.Instruction) -> None:
        flat = frame.pop_many(2 * (instruction.arg or 0))
        made = Mapping({})
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            self.call_dunder(key, "__hash__")
            self._assign_item(made, key, value)
        frame.push(made)

    def _add_item(self, frame: Frame, instruction: dis.Instruction) -> None:
        value = frame.pop()
        depth = instruction.arg or 1
        owner = frame.stack[-depth] if len(frame.stack) >= depth else None
        if isinstance(owner, Sequence):
            if instruction.opname in ("LIST_EXTEND", "SET_UPDATE"):
                if isinstance(value, Sequence):
                    owner.items.extend(value.items)
                else:
                    owner.items.append(self.iterate(value))
                    owner.complete = False
            else:
                owner.items.append(value)

    def _merge_map(self, frame: Frame, instruction: dis.Instruction) -> None:
        value = frame.pop()
        depth = instruction.arg or 1
        owner = frame.stack[-depth] if len(frame.stack) >= depth else None
        if isinstance(owner, Mapping) and isinstance(value, Mapping):
            owner.entries.update(value.entries)

    def _unpack_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        value, count = frame.pop(), instruction.arg or 0
        if isinstance(value, Sequence) and len(value.items) == count:
            frame.stack.extend(reversed(value.items))
        else:
            frame.stack.extend([self.iterate(value)] * count)

    def _import_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        wanted, level = frame.pop(), frame.pop()
        name = instruction.argval
        if isinstance(level, Const) and level.value:
            frame.push(None)
            return
        whole = isinstance(wanted, Sequence) and wanted.items
        frame.push(Ref(self.table.canonical(name if whole else name.partition(".")[0])))

    def _import_from_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        module = frame.stack[-1] if frame.stack else None
        frame.push(self.attribute(module, instruction.argval))

    def _before_with(self, frame: Frame, instruction: dis.Instruction) -> None:
        manager = frame.pop()
        frame.push(Native(lambda _: self.leave(manager)))
        frame.push(self.enter(manager))

    def _load_special(self, frame: Frame, instruction: dis.Instruction) -> None:
        manager = frame.pop()
        if "__exit__" in instruction.argrepr:
            frame.push(Native(lambda _: self.leave(manager)))
        elif "__enter__" in instruction.argrepr:
            frame.push(Native(lambda _: self.enter(manager)))
        else:
            frame.push(None)
        frame.push(NULL)

    def _make_function(self, frame: Frame, instruction: dis.Instruction) -> None:
        flags = (instruction.arg or 0) if instruction.opname == "MAKE_FUNCTION" else 0
        code = frame.pop()
        for bit in (8, 4, 2, 1):  # closure, annotations, keyword defaults, defaults (3.12)
            if flags & bit:
                frame.pop()
        if isinstance(code, Const) and type(code.value) is CodeType:
            frame.push(self._code_function(code.value, frame.scope, [], {}))
        else:
            frame.push(None)

    def _set_function(self, frame: Frame, instruction: dis.Instruction) -> None:
        function = frame.pop()
        frame.pop()
        frame.push(function)

    def _return_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        value = frame.pop() if instruction.opname == "RETURN_VALUE" else None
        if instruction.opname == "RETURN_CONST":
            value = constant(instruction.argval)
        frame.scope.returned.append(value)

    def _yield_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        frame.scope.yielded.append(frame.pop())
        frame.push(None)

    def _consume_code(self, frame: Frame, instruction: dis.Instruction) -> None:
        """``yield from`` consumes; ``await`` runs the coroutine."""
        value = frame.pop()
        if instruction.opname == "GET_AWAITABLE":
            frame.push(self.run_coroutine(value))
        else:
            item = self.iterate(value)
            frame.scope.yielded.append(item)
            frame.push(Iterable(item))

    def _copy(self, frame: Frame, instruction: dis.Instruction) -> None:
        depth = instruction.arg or 1
        frame.push(frame.stack[-depth] if len(frame.stack) >= depth else None)

    def _swap(self, frame: Frame, instruction: dis.Instruction) -> None:
        depth, stack = instruction.arg or 1, frame.stack
        if len(stack) >= depth:
            stack[-1], stack[-depth] = stack[-depth], stack[-1]


_SPREAD_ALWAYS_HAS_KEYWORDS = "CALL_FUNCTION_EX" not in dis.opmap or (
    dis.opmap["CALL_FUNCTION_EX"] not in dis.hasarg
)
_JUMPS = frozenset(dis.opname[code] for code in {*dis.hasjrel, *getattr(dis, "hasjump", ())})


_BINARY = {"/": ast.Div(), "+": ast.Add(), "|": ast.BitOr(), "*": ast.Mult(), "-": ast.Sub()}
_STEPS: dict[str, _Step] = {}
for _names, _step in {
    "LOAD_FAST LOAD_FAST_CHECK LOAD_FAST_BORROW LOAD_FAST_AND_CLEAR LOAD_DEREF LOAD_GLOBAL"
    " LOAD_NAME LOAD_CLOSURE LOAD_CLASSDEREF": Followed._load_name,
    "LOAD_FAST_LOAD_FAST LOAD_FAST_BORROW_LOAD_FAST_BORROW": Followed._load_pair,
    "LOAD_CONST LOAD_SMALL_INT LOAD_CONST_IMMORTAL": Followed._load_const,
    "STORE_FAST STORE_NAME STORE_FAST_MAYBE_NULL": Followed._store,
    "STORE_GLOBAL": Followed._store_global,
    "STORE_DEREF": Followed._store_deref,
    "STORE_FAST_STORE_FAST STORE_FAST_LOAD_FAST": Followed._store_pair,
    "LOAD_ATTR": Followed._load_attribute,
    "LOAD_SUPER_ATTR": Followed._load_super,
    "STORE_ATTR": Followed._store_attribute,
    "BINARY_SUBSCR": Followed._subscript_code,
    "STORE_SUBSCR": Followed._store_subscript,
    "BINARY_OP": Followed._binary,
    "CONTAINS_OP": Followed._contains,
    "FORMAT_SIMPLE FORMAT_WITH_SPEC FORMAT_VALUE CONVERT_VALUE": Followed._format,
    "FOR_ITER": Followed._for_iter,
    "KW_NAMES": Followed._keyword_names,
    "CALL CALL_KW": Followed._call_code,
    "CALL_FUNCTION_EX": Followed._call_spread,
    "BUILD_TUPLE BUILD_LIST BUILD_SET": Followed._build,
    "BUILD_MAP": Followed._build_map,
    "LIST_APPEND SET_ADD LIST_EXTEND SET_UPDATE": Followed._add_item,
    "DICT_MERGE DICT_UPDATE": Followed._merge_map,
    "UNPACK_SEQUENCE": Followed._unpack_code,
    "IMPORT_NAME": Followed._import_code,
    "IMPORT_FROM": Followed._import_from_code,
    "BEFORE_WITH": Followed._before_with,
    "LOAD_SPECIAL": Followed._load_special,
    "MAKE_FUNCTION": Followed._make_function,
    "SET_FUNCTION_ATTRIBUTE": Followed._set_function,
    "RETURN_VALUE RETURN_CONST": Followed._return_code,
    "YIELD_VALUE": Followed._yield_code,
    "GET_YIELD_FROM_ITER GET_AWAITABLE": Followed._consume_code,
    "COPY": Followed._copy,
    "SWAP": Followed._swap,
    "PUSH_NULL": lambda self, frame, instruction: frame.push(NULL),
}.items():
    _STEPS.update(dict.fromkeys(_names.split(), _step))
