"""The private names of the SDK that the durable layer uses are where they were.

A new version of the SDK that moves one fails here, by name, and not in a user's program.
"""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest
from resonate.codec import Codec, NoopEncryptor
from resonate.context import Context, Opts, ResonateFuture
from resonate.core import Core
from resonate.dependencies import DependencyMap
from resonate.durable import DurableFunction
from resonate.effects import ResonateEffects
from resonate.handle import Subscription
from resonate.heartbeat import NoopHeartbeat
from resonate.registry import Registry
from resonate.resonate import Resonate
from resonate.tree import Tree

from durable.engine import STEP, DurableCodec, StepContext, adopt_codec, register_step
from durable.signing import SigningKey
from durable.values import ValueCodec
from store import SqliteConnection

pytestmark = pytest.mark.unit


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


class NoEffects:
    async def create_promise(self, req: object) -> object: ...

    async def settle_promise(self, id: str, result: object) -> object: ...


def root() -> Context:
    return Context.root(
        id="x",
        origin_id="x",
        timeout_at=1,
        func_name="f",
        effects=NoEffects(),  # type: ignore[arg-type]
        target_resolver=lambda target: target or "",
        deps=DependencyMap(),
    )


async def test_a_context_keeps_its_state_where_it_is_looked_for() -> None:
    state = root()._state
    for name in (
        "chain",
        "effects",
        "workflow",
        "timeout_at",
        "branch_id",
        "spawned_remote",
        "spawned_remote_tasks",
        "spawned_locals",
        "tree",
    ):
        assert hasattr(state, name), name
    assert callable(state.chain.link)
    link = state.chain.link()
    assert parameters(link.run) == ["work"]
    info = root().info
    for name in ("id", "timeout_at", "branch_id", "origin_id"):
        assert hasattr(info, name), name


def test_the_methods_that_are_overridden_exist_with_these_parameters() -> None:
    assert parameters(Context._next_id) == ["self"]
    assert parameters(Context._child) == ["self", "id", "func_name", "timeout_at"]
    assert parameters(Context._child_timeout) == ["self", "requested"]
    assert parameters(Context._await_remote)[:3] == ["self", "req", "link"]
    assert callable(Context._global_req)
    assert callable(Context._remote_future)
    for name in ("_next_id", "_child", "_child_timeout", "_await_remote"):
        assert name in vars(StepContext), name
    assert {"timeout", "target", "version"} <= set(Opts.__struct_fields__)


def test_futures_effects_handles_and_trees_have_what_is_read() -> None:
    assert "_task" in inspect.getsource(ResonateFuture)
    assert "self.cache" in inspect.getsource(ResonateEffects.__init__)
    assert callable(Subscription().settled)
    assert callable(Subscription().wait)
    for name in ("root", "ids", "settle"):
        assert callable(getattr(Tree, name)), name
    assert {"codec", "sender"} <= set(Core.__struct_fields__)
    assert NoopHeartbeat is not None


async def test_an_engine_takes_our_codec_everywhere(tmp_path) -> None:
    engine = Resonate(
        network=SqliteConnection(tmp_path / "runs.db"), group="g", autostart=False, env={}
    )
    codec = DurableCodec(ValueCodec(SigningKey.generate))
    adopt_codec(engine, codec)
    assert engine._codec is engine._core.codec is engine.promises.codec is codec
    assert isinstance(engine._runtime.stopping, bool)
    assert hasattr(engine._runtime, "bg_tasks")
    assert isinstance(codec, Codec)
    assert parameters(Codec.__init__) == ["self", "encryptor"]
    assert NoopEncryptor().encrypt(b"x") == b"x"


def test_executions_are_created_and_followed_by_these_names(tmp_path) -> None:
    engine = Resonate(
        network=SqliteConnection(tmp_path / "runs.db"), group="g", autostart=False, env={}
    )
    assert parameters(engine._subscribe) == ["id"]
    assert parameters(engine._register_and_settle) == ["id", "sub"]
    assert parameters(engine._spawn) == parameters(engine._bounded_execute) == ["coro"]
    assert parameters(engine._encode_create_req) == ["req"]
    built = ["id", "func_name", "packed", "version", "timeout", "target"]
    assert parameters(engine._build_root_promise_create_req) == built
    assert parameters(engine._sender.task_create_or_conflict) == ["pid", "ttl", "action"]
    assert parameters(engine._sender.promise_create)[:1] == ["req"]
    assert parameters(engine._core.execute_until_blocked_outer) == [
        *("task_id", "task_version", "promise", "preload")
    ]
    assert isinstance(engine._runtime.subs, dict)
    assert (engine._pid, engine._ttl) == (engine._pid, timedelta(minutes=1))
    assert "promise_tags" in parameters(engine.schedules.create)


def test_the_function_of_steps_stands_in_for_the_sdks_own() -> None:
    async def step(ctx: Context, call: object) -> object: ...

    registry = Registry()
    register_step(registry, step)
    found = registry.get(STEP, 1)
    assert found is not None
    assert found._fn is step
    assert parameters(DurableFunction.pack_args) == ["self", "args", "kwargs"]
    assert parameters(DurableFunction.invoke) == ["self", "ctx", "packed", "coerce_args"]
