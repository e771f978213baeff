"""A web service whose requests start durable executions, and which survives its own restart.

    pip install 'sostenuto[examples]'
    python examples/web_service.py

    curl -X POST localhost:8000/reports/monday -d '{"pages": 5}'      # starts it, or finds it
    curl localhost:8000/reports/monday                                # its state
    curl 'localhost:8000/reports/monday?wait=30'                      # waits for its result

Kill the service while a report is being made and start it again: reports that were under way go
on by themselves, with the first page that is missing, and whoever asks gets the same result. A
client may repeat its POST as often as it likes: one name is one execution.

SERVICE_DB names the database (service.db), SERVICE_PORT the port (8000), and SERVICE_LOG, optional,
a file to which every step that really runs appends a line.
"""

import asyncio
import contextlib
import os
import time

import uvicorn
from durable import Durable, DurableError
from durable.errors import ExecutionMismatchError, InvalidArgumentError, UnknownExecutionError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

PAGES_MAX = 1000
WAIT_MAX_S = 60

durable_app = Durable(os.environ.get("SERVICE_DB", "service.db"))


def log_step(name: str) -> None:
    """Append one line to SERVICE_LOG, whole even if several processes write at once."""
    if path := os.environ.get("SERVICE_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


async def render_page(number: int) -> int:
    """Something slow, worth doing once: returns the page's length."""
    log_step(f"page-{number}")
    await asyncio.sleep(0.2)
    return 1000 + 7 * number


@durable_app.register
async def make_report(ctx, pages: int) -> dict[str, int]:
    """Render page after page, each a durable step."""
    lengths = [await ctx.run(render_page, number) for number in range(1, pages + 1)]
    return {"pages": pages, "characters": sum(lengths)}


async def start_report(request: Request) -> JSONResponse:
    name = request.path_params["name"]
    try:
        pages = int((await request.json())["pages"])
    except (ValueError, TypeError, KeyError):
        raise HTTPException(400, 'send JSON such as {"pages": 5}') from None
    if not 1 <= pages <= PAGES_MAX:
        raise HTTPException(400, f"pages={pages} must be 1 to {PAGES_MAX}")
    # Accepted is what is recorded: from here on it outlives the service. A name that is taken by
    # a report of another length is refused (ExecutionMismatchError).
    await durable_app.run(name, make_report, pages).started()
    return JSONResponse({"report": name, "state": "started"}, status_code=202)


async def get_report(request: Request) -> JSONResponse:
    name = request.path_params["name"]
    try:
        wait_s = float(request.query_params.get("wait", "0"))
    except ValueError:
        raise HTTPException(400, "wait= takes seconds") from None
    # How it ended, well or not, is in the record; this only waits for the end.
    with contextlib.suppress(Exception):
        await durable_app.get(name).result(timeout=min(max(wait_s, 0), WAIT_MAX_S))
    record = await durable_app.execution(name)
    answer = {"report": name, "state": record.state}
    answer |= {"result": record.result} if record.state == "resolved" else {}
    answer |= {"error": str(record.error)} if record.error is not None else {}
    return JSONResponse(answer)


async def bad_request(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


async def refused(request: Request, error: Exception) -> JSONResponse:
    status = {UnknownExecutionError: 404, ExecutionMismatchError: 409, InvalidArgumentError: 400}
    return JSONResponse({"error": str(error)}, status_code=status.get(type(error), 503))


@contextlib.asynccontextmanager
async def lifespan(app: Starlette):
    async with durable_app:  # takes up what a killed process left
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/reports/{name}", start_report, methods=["POST"]),
        Route("/reports/{name}", get_report, methods=["GET"]),
    ],
    exception_handlers={DurableError: refused, HTTPException: bad_request},
)

if __name__ == "__main__":
    port = int(os.environ.get("SERVICE_PORT", "8000"))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
