"""A host process for one frozen cell; prints one line of JSON about what became of it.

Read from standard input: ``{"source": str, "setup": str, "timeout_s": float, "limit": "timeout" or
"interrupt", "thread": bool}``. With ``thread`` the host's loop runs outside the main thread.
"""

import asyncio
import json
import sys
import threading
import time

from executor import AsyncExecutor


async def run_cell(task):
    executor = AsyncExecutor(timeout=task["timeout_s"])
    report = {}
    if task.get("setup"):
        await executor.execute(task["setup"])
    begun = time.monotonic()
    if task["limit"] == "interrupt":
        # From another thread's loop: the loop of the cell may be frozen.
        def interrupt():
            time.sleep(0.5)
            asyncio.run(executor.interrupt())

        threading.Thread(target=interrupt, daemon=True).start()
    try:
        report["value"] = repr(await executor.execute(task["source"]))
        report["error"] = None
    except BaseException as error:
        report["error"] = type(error).__name__
        report["message"] = str(error)
        report["notes"] = list(getattr(error, "__notes__", []))
    report["elapsed_s"] = time.monotonic() - begun
    if task.get("idle_s"):
        begun = time.monotonic()
        await asyncio.sleep(task["idle_s"])
        report["idle_s"] = time.monotonic() - begun
        report["idle_notes"] = [note.text for note in executor.notes]
    begun = time.monotonic()
    report["next"] = await executor.execute("40 + 2")
    report["next_awaited"] = await executor.execute("import asyncio\nawait asyncio.sleep(0, 43)")
    report["next_blocking"] = await executor.execute("import time\ntime.sleep(0.01)\n44")
    report["next_elapsed_s"] = time.monotonic() - begun
    names = executor.namespace.namespace
    report["left"] = names.get("left")
    begun = time.monotonic()
    await executor.aclose()
    report["close_s"] = time.monotonic() - begun
    return report


def main():
    task = json.loads(sys.stdin.read())
    reports = []
    if task["thread"]:
        thread = threading.Thread(target=lambda: reports.append(asyncio.run(run_cell(task))))
        thread.start()
        thread.join()
    else:
        reports.append(asyncio.run(run_cell(task)))
    print(json.dumps(reports[0]), flush=True)


if __name__ == "__main__":
    main()
