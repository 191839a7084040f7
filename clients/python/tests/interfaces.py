"""The interfaces of the frameworks for agents, written down from their published sources.

These frameworks are not in Debian, so the tests run against what is written here: the methods, their
parameters and which of them are coroutines. Where a framework is installed, test_interfaces compares it with
this as well.

- openai-agents 0.22.0: agents.memory.session.Session
- claude-agent-sdk 0.2.143: claude_agent_sdk.SessionStore
- langgraph-checkpoint 4.2.0: langgraph.checkpoint.base.BaseCheckpointSaver
"""

from __future__ import annotations

import inspect
from typing import Any


class OpenAISession:
    """The items of one conversation. The runner calls all four; session_settings may have a `limit`."""

    session_id: str
    session_settings: Any

    async def get_items(self, limit=None):
        ...

    async def add_items(self, items):
        ...

    async def pop_item(self):
        ...

    async def clear_session(self):
        ...


class ClaudeStore:
    """Transcripts. A key is a dict of project_key, session_id and perhaps subpath. All but append and load
    are optional."""

    async def append(self, key, entries):
        ...

    async def load(self, key):
        ...

    async def list_sessions(self, project_key):
        ...

    async def list_session_summaries(self, project_key):
        ...

    async def delete(self, key):
        ...

    async def list_subkeys(self, key):
        ...


class Checkpointer:
    """Checkpoints of a graph's threads. A config names thread_id, checkpoint_ns and perhaps checkpoint_id. Of
    the base class are get, aget and with_allowlist. delete_for_runs is left out: no call of the store removes
    single messages from the middle of a history."""

    left_out = {"get", "aget", "with_allowlist", "delete_for_runs", "adelete_for_runs"}

    def get_tuple(self, config):
        ...

    def list(self, config, *, filter=None, before=None, limit=None):
        ...

    def put(self, config, checkpoint, metadata, new_versions):
        ...

    def put_writes(self, config, writes, task_id, task_path=""):
        ...

    def delete_thread(self, thread_id):
        ...

    def copy_thread(self, source_thread_id, target_thread_id):
        ...

    def prune(self, thread_ids, *, strategy="keep_latest"):
        ...

    def get_delta_channel_history(self, *, config, channels):
        ...

    async def aget_delta_channel_history(self, *, config, channels):
        ...

    def get_next_version(self, current, channel):
        ...

    async def aget_tuple(self, config):
        ...

    async def alist(self, config, *, filter=None, before=None, limit=None):
        yield

    async def aput(self, config, checkpoint, metadata, new_versions):
        ...

    async def aput_writes(self, config, writes, task_id, task_path=""):
        ...

    async def adelete_thread(self, thread_id):
        ...

    async def acopy_thread(self, source_thread_id, target_thread_id):
        ...

    async def aprune(self, thread_ids, *, strategy="keep_latest"):
        ...


def differences(implementation: type, interface: type) -> list[str]:
    """What a caller that knows the interface cannot do with the implementation."""
    found = []
    for name, wanted in vars(interface).items():
        if name.startswith("_") or not callable(wanted) or name in getattr(implementation, "left_out", ()):
            continue
        method = getattr(implementation, name, None)
        if method is None:
            found.append(f"{name} is missing")
        elif _kind(method) != _kind(wanted):
            found.append(f"{name} is {_kind(method)} in place of {_kind(wanted)}")
        else:
            has, wants = _parameters(method), _parameters(wanted)
            found += [f"{name} has no parameter {p}" for p in wants if p not in has]
            found += [f"{name}: {p} is another" for p in wants if p in has and has[p] != wants[p]]
            found += [
                f"{name} needs a {p}" for p in has if p not in wants and has[p][1] is inspect.Parameter.empty
            ]
    return found


def _kind(function: Any) -> str:
    if inspect.isasyncgenfunction(function):
        return "an asynchronous generator"
    return "a coroutine" if inspect.iscoroutinefunction(function) else "a function"


def _parameters(function: Any) -> dict[str, tuple[Any, Any]]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {p.name: (p.kind, p.default) for p in parameters}
