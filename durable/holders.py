"""Which process holds an execution's task."""

from __future__ import annotations

import json
import uuid

from resonate_base import PROTOCOL_VERSION, ConnectorError, Network

__all__ = ["holder"]


async def holder(network: Network, execution_id: str) -> str | None:
    """Return the pid of the process that holds an execution's task.

    A process that died holds it on, until its lease ends, where the engine cannot see deaths.

    Args:
        network: Carries the request to the engine.
        execution_id: The execution.

    Returns:
        The pid as the engine has it; None where nobody holds the task, or the engine cannot tell.
    """
    head = {"corrId": uuid.uuid4().hex, "version": PROTOCOL_VERSION}
    request = {"kind": "task.get", "head": head, "data": {"id": execution_id}}
    try:
        answer = json.loads(await network.send(json.dumps(request)))
        task = answer["data"]["task"]
        return str(task["pid"]) if task["state"] == "acquired" else None
    except (ConnectorError, LookupError, TypeError, ValueError):
        return None
