"""``promise.search`` on Postgres, which resonate-pg answers with 501, not implemented.

Listings, steps, replay and export need it. The answer is made by the schema's own
function for a promise's JSON, so that deadlines that have passed read as they do in
``promise.get``.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from durable.config import load_connector

__all__ = ["SearchingPostgres"]

_PAGE = 100

_QUERY = """
SELECT found::text FROM (
  SELECT p.id, resonate._promise_json(
    p, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS found
  FROM resonate.promises p
  WHERE p.id COLLATE "C" > %s::text AND p.tags @> %s::jsonb
    AND (%s::text IS NULL OR p.origin_id = %s::text)
) promise
WHERE %s::text IS NULL OR found->>'state' = %s::text
ORDER BY id COLLATE "C" LIMIT %s
"""


class _Head(msgspec.Struct):
    kind: str


class SearchingPostgres:
    """A connection to resonate-pg that can search.

    Args:
        inner: The ``PostgresConnection``.
        url: Its address, for a connection pool of the searches.
    """

    def __init__(self, inner: Any, url: str) -> None:
        self._inner = inner
        make = load_connector("resonate_pg.client", "PsycopgSessions", "postgres", url)
        # One connection, as searches are rare; opened by the first of them.
        self._sessions = make(url, min_size=1, max_size=1)
        self.unicast = inner.unicast
        self.resolve_target = inner.resolve_target
        self.recv = inner.recv
        self.start = inner.start

    async def stop(self) -> None:
        """Stop the connection and its searches."""
        await self._inner.stop()
        await self._sessions.close()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        """Send a request; a search of promises is answered here."""
        if msgspec.json.decode(req, type=_Head).kind != "promise.search":
            answer: str = await self._inner.send(req, headers)
            return answer
        return await self._search(json.loads(req))

    async def _search(self, request: dict[str, Any]) -> str:
        data = request.get("data") or {}
        tags = data.get("tags") or {}
        origin = tags.get("resonate:origin")
        state, limit = data.get("state"), int(data.get("limit") or _PAGE)
        parameters = (
            *(data.get("cursor") or "", json.dumps(tags)),
            *(origin, origin, state, state, limit + 1),
        )
        try:
            async with self._sessions.session() as connection:
                rows = await (await connection.execute(_QUERY, parameters)).fetchall()
        except Exception as error:  # noqa: BLE001 - the driver's errors are no dependency of ours
            refusal = (
                f"listing promises needs SELECT on resonate.promises and EXECUTE on "
                f"resonate._promise_json: {error}"
            )
            return _answer(request, 403, refusal)
        found = [json.loads(text) for (text,) in rows]
        page: dict[str, Any] = {"promises": found[:limit]}
        if len(found) > limit:
            page["cursor"] = found[limit - 1]["id"]
        return _answer(request, 200, page)


def _answer(request: dict[str, Any], status: int, data: Any) -> str:
    head = {**(request.get("head") or {}), "status": status}
    return json.dumps({"kind": request["kind"], "head": head, "data": data})
