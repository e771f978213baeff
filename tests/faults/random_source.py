"""Random programs of the kinds that users write, as source text with top-level await.

Each is put together from :data:`PARTS`. A part's ``<a>``, ``<b>``... become labels that no
other step of the program has: a step writes its label into the log when it starts, and returns
or raises it, so that the log and the store can be compared. ``<delay>`` is a random one.
"""

from __future__ import annotations

import random
import re

__all__ = ["LABEL", "random_source"]

LABEL = re.compile(r"L\d+[a-z]*\d*#")

DELAYS_S = (0.0, 0.0, 0.005, 0.02, 0.06)

PRELUDE = """
import asyncio, collections, contextlib, dataclasses, datetime, decimal, enum, functools, os
import pathlib, uuid
import tenacity

@dataclasses.dataclass
class Order:
    id: int
    lines: list
    at: datetime.datetime = datetime.datetime(2026, 1, 2, 3, 4, 5, 678)

class Color(enum.Enum):
    RED = "red"

class ShopError(Exception):
    def __init__(self, code, *, label):
        super().__init__(f"code {code} of {label}")
        self.code = code

VALUES = [
    Order(1, [2, {3, 4}]), Color.RED, datetime.timedelta(days=1), decimal.Decimal("1.10"),
    {1, 2, 3}, frozenset("a"), b"\\x00\\xff", pathlib.PurePosixPath("/a/b"), (1, (2, [3])),
    {(1, 2): "pair", None: 0}, 10**40, float("inf"), complex(1, 2), uuid.UUID(int=7),
    collections.deque([1, 2], maxlen=3), collections.Counter("aab"), range(3, 9, 2),
    ValueError("a value"), "x" * 200_000, None, {"k": {"n": [1.5, True, "\\ud800"]}},
]

def started(label):
    log = os.open(os.environ["STEP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{label}\\n".encode())
    os.close(log)

def shown(value):
    if isinstance(value, BaseException):
        inner = [shown(each) for each in getattr(value, "exceptions", ())]
        return f"{type(value).__name__}{value.args[:1]!r}{inner} from {shown(value.__cause__)}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(value)!r}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}{[shown(each) for each in value]!r}"
    if isinstance(value, str) and len(value) > 1000:
        return f"{len(value)} characters"
    return repr(value)

out = []

async def step(label, value=None, delay=0.0):
    started(label)
    await asyncio.sleep(delay)
    return [label, value]

def blocking(label, value=None):
    started(label)
    return [label, value]

async def typed(label, index, delay=0.0):
    started(label)
    await asyncio.sleep(delay)
    return {"label": label, "value": VALUES[index % len(VALUES)]}

async def fails(label, kind, delay=0.0):
    started(label)
    await asyncio.sleep(delay)
    if kind == "own":
        raise ShopError(7, label=label)
    if kind == "cause":
        try:
            {}[label]
        except KeyError as error:
            raise ValueError(label) from error
    if kind == "group":
        raise ExceptionGroup(label, [ValueError(1), ExceptionGroup("inner", [OSError(2, "no")])])
    if kind == "recursion":
        def down():
            return down()
        try:
            down()
        except RecursionError as error:
            error.args = (label,)
            raise
    raise {"exit": SystemExit, "memory": MemoryError, "stop": StopIteration}[kind](label)
"""

PARTS = (
    'for n in range(4): out.append(shown(await ctx.run(step, f"<a>"[:-1] + f"x{n}#", n)))',
    """out.append(shown(await ctx.run(typed, "<a>", <n>, <delay>)))
out.append(shown((await ctx.run(typed, "<b>", <m>))["value"]))""",
    """out.append(shown(await ctx.run(lambda: blocking("<a>"))))
out.append(shown(await ctx.run(functools.partial(step, "<b>", delay=<delay>))))""",
    # Nested functions, gathers in gathers.
    """async def outer<i>(label):
    first = await ctx.run(step, "<a>", 1, <delay>)
    rest = await asyncio.gather(ctx.run(step, "<b>"), asyncio.gather(ctx.run(typed, "<c>", <n>)))
    return [label, first, shown(rest)]
both<i> = asyncio.gather(ctx.run(outer<i>, "<d>"), ctx.run(step, "<e>", 2, <delay>))
out.append(shown(await both<i>))""",
    # A task group with a member that fails, and others that are cancelled then.
    """async def member<i>():
    await ctx.run(step, "<a>", 1, <delay>)
    await ctx.sleep(60)
try:
    async with asyncio.TaskGroup() as group:
        group.create_task(member<i>())
        group.create_task(ctx.run(fails, "<b>", "cause", <delay>))
except* ValueError as error:
    out.append(shown(error))""",
    # Timeouts around steps: one that strikes, one that does not.
    """try:
    async with asyncio.timeout(0.05):
        await ctx.run(step, "<a>", 1, 30)
except TimeoutError:
    out.append("late")
out.append(shown(await asyncio.wait_for(ctx.run(step, "<b>", 1, <delay>), 50)))
try:
    await ctx.options(timeout=0.05).run(step, "<c>", 1, 30)
except TimeoutError:
    out.append("late again")""",
    """policy = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_fixed(0.03)}
try:
    await ctx.options(retry=policy).run(fails, "<a>", "own")
except ShopError as error:
    out.append(shown(error))""",
    *(
        f"""try:
    await ctx.run(fails, "<a>", "{kind}", <delay>)
except BaseException as error:
    out.append(shown(error))"""
        for kind in ("own", "group", "recursion", "exit", "memory", "stop")
    ),
    'await asyncio.gather(ctx.sleep(<delay>), ctx.run(step, "<a>", 1, <delay>), ctx.sleep(0.1))',
    # State carried from cell to cell: a generator, and a step that is still under way.
    """numbers<i> = (n * n for n in range(9))
early<i> = ctx.run(step, "<a>", next(numbers<i>), <delay>)
# %% another cell
out.append(shown(await ctx.run(step, "<b>", next(numbers<i>))))
# %% and one more
out.append(shown([await early<i>, next(numbers<i>)]))""",
    """async def pages<i>():
    for label in ("<a>", "<b>", "<c>"):
        try:
            yield await ctx.run(step, label, 1, <delay>)
        finally:
            out.append(label)
async for page in pages<i>(): out.append(shown(page))""",
    """try:
    try:
        await ctx.run(fails, "<a>", "own")
    finally:
        out.append(shown(await ctx.run(step, "<b>", "in finally", <delay>)))
except ShopError as error:
    out.append(error.code)""",
    """@contextlib.asynccontextmanager
async def opened<i>():
    yield await ctx.run(step, "<a>", "open", <delay>)
    await ctx.run(step, "<b>", "close")
async with opened<i>() as held: out.append(shown([held, await ctx.run(step, "<c>")]))""",
    """orders<i> = asyncio.Queue()
for label in ("<a>", "<b>", "<c>", "<d>"): orders<i>.put_nowait(label)
filled<i> = {}
async def clerk<i>():
    while not orders<i>.empty():
        label = orders<i>.get_nowait()
        filled<i>[label] = await ctx.options(key=label).run(step, label, 1, <delay>)
await asyncio.gather(*(clerk<i>() for _ in range(2)))
out.append(shown(sorted(filled<i>.items())))""",
    """begun<i> = [ctx.run(step, "<a>", 1, <delay>), ctx.run(step, "<b>", 1, <delay>)]
done<i> = [await each for each in asyncio.as_completed(begun<i>)]
out.append(shown(sorted(done<i>)))""",
    """async def down<i>(n):
    started(f"<a>"[:-1] + f"x{n}#")
    below = [0, 0] if n == 0 else await ctx.run(down<i>, n - 1)
    return [f"<a>"[:-1] + f"x{n}#", below[1] + n]
out.append(await ctx.run(down<i>, 4))""",
    "out.append(shown(await ctx.promise()))",
)


def random_source(seed: int) -> str:
    """Return a program; its last expression tells all that its steps have returned and raised."""
    dice = random.Random(seed)
    blocks = [
        _filled(part, number, dice)
        for number, part in enumerate(dice.choices(PARTS, k=dice.randint(6, 12)))
    ]
    return "\n".join([PRELUDE, *blocks, "out", ""])


def _filled(part: str, number: int, dice: random.Random) -> str:
    def fill(found: re.Match[str]) -> str:
        match found[1]:
            case "i":
                return str(number)
            case "n" | "m":
                return str(dice.randrange(100))
            case "delay":
                return str(dice.choice(DELAYS_S))
            case label:
                return f"L{number:03d}{label}#"

    return re.sub(r"<([a-z]+)>", fill, part)
