"""A Resonate server over HTTP for tests: requests by POST, messages by server-sent events.

It keeps its promises in a SQLite file; what is tested with it is the way over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from store import SqliteConnection


@contextlib.asynccontextmanager
async def http_server(path: Path, port: int = 0) -> AsyncIterator[str]:
    """Serve a database file on a port of this machine, a free one by default; gives the URL."""
    requests = SqliteConnection(path, pid="server", group="server")
    await requests.start()

    async def answer(request: web.Request) -> web.Response:
        text = await requests.send(await request.text())
        status = json.loads(text).get("head", {}).get("status", 200)
        return web.Response(text=text, status=status, content_type="application/json")

    async def poll(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        messages: asyncio.Queue[str] = asyncio.Queue()
        member = SqliteConnection(
            path, pid=request.match_info["pid"], group=request.match_info["group"]
        )
        member.recv(messages.put_nowait)
        await member.start()
        try:
            while True:
                message = await messages.get()
                await stream.write(f"data: {message}\n\n".encode())
        finally:
            await member.stop()

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes([web.post("/", answer), web.get("/poll/{group}/{pid}", poll)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        host, bound = runner.addresses[0]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()
        await requests.stop()
