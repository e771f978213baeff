"""An agent loop: a model writes cells of Python, each runs durably, the model sees what came of it.

    python examples/agent_loop.py ["a question"]

The model here is a fake one in this file, so that the example needs no key; put a call of a real
one into ask_model(). Kill the program at any moment and start it again: answers of the model and
results of tools are read from the store (they cost money and have effects), and the loop goes on
with the first that is missing. Names that cells define are there in later cells, also after a
restart, because the cells run again - and their `ctx.run` steps do not.

AGENT_DB names the database (agent.db), AGENT_ID the execution, and AGENT_LOG, optional, a file to
which every step that really runs appends a line.
"""

import asyncio
import os
import sys
import time

from durable import Durable, async_executor_factory

#: What the fake model answers, in turn: a cell to run, the last one a result.
SCRIPT = [
    "cities = await ctx.run(list_cities)\ncities",
    """import asyncio
readings = await asyncio.gather(*(ctx.run(temperature, city) for city in cities))
dict(zip(cities, readings))""",
    "warmest = max(zip(readings, cities))\nwarmest.city",  # a mistake, as models make them
    "warmest[1]",
    "answer = f'{warmest[1]} is the warmest, at {warmest[0]} degrees'\nanswer",
]
CELLS_MAX = 10


def log_step(name: str) -> None:
    """Append one line to AGENT_LOG, whole even if several processes write at once."""
    if path := os.environ.get("AGENT_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


async def ask_model(transcript: list[dict[str, str]]) -> dict[str, object]:
    """Ask for the next cell. A real model would be sent the transcript."""
    turn = sum(message["role"] == "model" for message in transcript)
    log_step(f"model-{turn}")
    await asyncio.sleep(0.05)
    return {"code": SCRIPT[turn], "done": turn == len(SCRIPT) - 1}


async def list_cities() -> list[str]:
    """A tool: which cities there are readings of."""
    log_step("list")
    return ["Bergen", "Lagos", "Lima", "Oslo"]


async def temperature(city: str) -> int:
    """A tool: the reading of a city."""
    log_step(f"reading-{city}")
    await asyncio.sleep(0.05)
    return {"Bergen": 7, "Lagos": 31, "Lima": 19, "Oslo": 3}[city]


app = Durable(os.environ.get("AGENT_DB", "agent.db"))
app.set_dependency("async_executor", lambda ctx: async_executor_factory(ctx), singleton=False)


@app.register
async def agent(ctx, question: str) -> str:
    """Let the model write cells until it has an answer."""
    executor = ctx.get_dependency("async_executor")
    tools = {"ctx": ctx, "list_cities": list_cities, "temperature": temperature}
    executor.namespace.update_namespace(tools)
    transcript = [{"role": "user", "content": question}]
    for _ in range(CELLS_MAX):
        reply = await ctx.run(ask_model, transcript)
        transcript.append({"role": "model", "content": reply["code"]})
        try:
            result = await executor.execute(reply["code"])
        except Exception as error:  # the model is shown its mistake and may mend it
            transcript.append({"role": "error", "content": f"{type(error).__name__}: {error}"})
            continue
        transcript.append({"role": "result", "content": repr(result)})
        if reply["done"]:
            return result
    raise RuntimeError(f"no answer after {CELLS_MAX} cells")


async def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "Which city is the warmest?"
    async with app:
        print(await app.run(os.environ.get("AGENT_ID", "agent-1"), agent, question))


if __name__ == "__main__":
    asyncio.run(main())
