"""An engine in a process of its own, and the handle by which a benchmark asks it for work.

Requests and answers are lines of JSON. The child takes the times, without the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import work
from engines import ENGINES, Engine

#: What a worker has to answer one request; one that takes longer hangs.
ANSWER_S = 300.0


class Worker:
    """A child process with one engine.

    Args:
        engine: A name of ``ENGINES``.
        directory: Where its files are.
        prefix: A command to run it under, such as a tracer.
        env: More variables for it.
    """

    def __init__(
        self,
        engine: str,
        directory: Path,
        prefix: list[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.engine = engine
        self.started_s = time.monotonic()
        with (directory / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*(prefix or []), sys.executable, __file__, engine, str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        os.set_blocking(self.process.stdout.fileno(), False)  # type: ignore[union-attr]
        self._rest = b""
        self._log = directory / "worker.log"

    def say(self, **request: Any) -> None:
        """Send a request and do not wait."""
        self.process.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def hear(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """The next answer.

        Raises:
            TimeoutError: Nothing came in time.
            EOFError: The process has ended.
        """
        until_s = time.monotonic() + timeout_s
        out = self.process.stdout
        while b"\n" not in self._rest:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not select.select([out], [], [], left_s)[0]:
                raise TimeoutError(f"{self.engine} did not answer within {timeout_s:g} s")
            more = out.read(1 << 20)  # type: ignore[union-attr]
            if not more:
                said = self._log.read_text(errors="replace")[-1500:]
                raise EOFError(f"the worker of {self.engine} ended: {said}")
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            RuntimeError: The engine failed.
        """
        self.say(**request)
        answer = self.hear()
        if "refused" in answer:
            raise RuntimeError(f"{self.engine}: {answer['refused']}: {answer['text']}")
        return answer

    def close(self) -> None:
        """Close the engine and wait for the process."""
        if self.process.poll() is None:
            self.say(do="close")
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close_pipes()

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what was written last found nobody
                pipe.close()  # type: ignore[union-attr]


async def _stall_ms(done: asyncio.Event) -> float:
    """How late a 1 ms ticker was at most."""
    longest_s = 0.0
    while not done.is_set():
        before_s = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - before_s - 0.001)
    return longest_s * 1e3


async def _serve(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    """Do what one request asks."""
    kind, id, count = request.get("kind", "one"), request["id"], request.get("count", 0)
    work.latencies_us.clear()
    began_s = time.perf_counter()
    match request["do"]:
        case "run":
            result = await engine.run(kind, id, count)
            answer: dict[str, Any] = {"result": result}
        case "attach":
            answer = {"result": await engine.attach(kind, id, count)}
        case "many":  # many executions at once, beside a ticker
            done = asyncio.Event()
            ticker = asyncio.create_task(_stall_ms(done))
            number = request["executions"]
            await asyncio.gather(*(engine.run(kind, f"{id}-{n}", count) for n in range(number)))
            done.set()
            answer = {"stall_ms": await ticker}
        case other:
            raise ValueError(f"no request {other!r}")
    answer["took_s"] = time.perf_counter() - began_s
    if kind == "sequence" and request["do"] == "run":
        answer["latencies_us"] = work.latencies_us
    return answer


async def main(name: str, directory: Path, answers: int) -> None:
    """Open the engine and serve requests until one says close."""
    logging.disable(logging.CRITICAL)
    engine: Engine = ENGINES[name]()
    await engine.open(directory)
    loop = asyncio.get_running_loop()
    lines: asyncio.StreamReader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    def answer(document: dict[str, Any]) -> None:
        os.write(answers, json.dumps(document).encode() + b"\n")

    answer({"opened": name})
    while line := await lines.readline():
        request = json.loads(line)
        if request["do"] == "close":
            break
        try:
            answer(await _serve(engine, request))
        except Exception as error:
            answer({"refused": type(error).__name__, "text": str(error)[:500]})
    await engine.close()


if __name__ == "__main__":
    # What an engine prints must not stand between the answers.
    channel = os.dup(1)
    os.dup2(2, 1)
    os.environ["BENCH_PROBE_FD"] = str(channel)
    work._probe_fd = channel
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), channel))
    os._exit(0)  # an engine's threads may not end
