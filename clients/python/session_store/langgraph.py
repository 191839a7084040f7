"""Checkpointer of LangGraph: a thread is a session for each of its checkpoint namespaces.

    graph = builder.compile(checkpointer=SessionStoreSaver(SessionStore(pool)))  # or AsyncSessionStore(pool)

With a SessionStore all methods work, the asynchronous ones in threads; with an AsyncSessionStore only those.
_checkpoints.py says how checkpoints are stored.
"""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

from . import _checkpoints
from ._checkpoints import Found, from_text, place_of, start_of, to_text
from ._steps import Operations, generators, methods, next_of

try:
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, get_checkpoint_metadata
except ImportError:  # the class has the methods of a checkpointer without it
    from ._langgraph_base import BaseCheckpointSaver, CheckpointTuple, get_checkpoint_metadata  # type: ignore


class SessionStoreSaver(Operations, BaseCheckpointSaver):  # type: ignore[misc]
    """Checkpoints in `store`, read by SQL, so that a run goes on from the last checkpoint. A run that goes on
    after its thread was deleted ends with a DeadSessionError."""

    def __init__(self, store: Any, *, serde: Any = None):
        super().__init__(serde=serde)
        self._store = store.with_(reads="sql")

    def _get_tuple(self, config: Any) -> Any:
        place = _place(config)
        thread = (yield self._store.get(place.session_id)) or {}
        wanted = config["configurable"].get("checkpoint_id") or (thread.get("head") or [{}])[0].get("id")
        found = yield from _checkpoints.find(self._store, place, thread, wanted)
        return found and self._tuple(found)

    def _list(self, config: Any, *, filter: Any = None, before: Any = None, limit: int | None = None) -> Any:
        configurable, filter = (config or {}).get("configurable", {}), filter or {}
        wanted = configurable.get("checkpoint_id")
        end = before["configurable"].get("checkpoint_id") if before else None

        def accepts(head: Any) -> bool:
            metadata = self._load(head["metadata"]) if filter else {}
            accepted = all(name in metadata and metadata[name] == value for name, value in filter.items())
            return accepted and wanted in (None, "", head["id"])

        visit = partial(_checkpoints.backwards, self._store, end, accepts)
        steps = _checkpoints.threads(self._store, configurable, visit)
        while limit is None or limit > 0:
            found = yield from next_of(Found, steps)
            if found is None:
                return
            yield self._tuple(found)
            limit = limit and limit - 1

    def _put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        place, parent = _place(config), config["configurable"].get("checkpoint_id") or None
        rest = json.dumps({name: part for name, part in checkpoint.items() if name != "channel_values"})
        metadata = self._dump(get_checkpoint_metadata(config, metadata))
        head = {"id": checkpoint["id"], "parent": parent, "checkpoint": rest, "metadata": metadata}
        channels = {
            name: partial(self._dump, value)
            for name, value in checkpoint["channel_values"].items()
            if parent or name in new_versions
        }
        yield from _checkpoints.put(self._store, place, head, channels, new_versions)
        return _config(place, checkpoint["id"])

    def _put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        place, checkpoint = _place(config), config["configurable"]["checkpoint_id"]
        dumped = [(channel, self._dump(value)) for channel, value in writes]
        entries = _checkpoints.write_entries(checkpoint, task_id, task_path, dumped)
        if entries:
            yield self._store.append(place.session_id, [], patch={"of": place.of, "writes": entries})

    def _delete_thread(self, thread_id: str) -> Any:
        yield self._store.clear(id_prefix=start_of(thread_id))

    def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> Any:
        visit = partial(_checkpoints.copy, self._store, target_thread_id)
        yield from _checkpoints.threads(self._store, {"thread_id": source_thread_id}, visit)

    def _prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> Any:
        visit = partial(_checkpoints.keep_latest, self._store)
        for thread_id in thread_ids:
            if strategy == "delete":
                yield from self._delete_thread(thread_id)
            elif strategy == "keep_latest":
                yield from _checkpoints.threads(self._store, {"thread_id": thread_id}, visit)
            else:
                raise ValueError(f"no such strategy: {strategy}")

    def _get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        place, wanted = _place(config), config["configurable"].get("checkpoint_id")
        thread = (yield self._store.get(place.session_id)) if channels else None
        found = yield from _checkpoints.history_of(self._store, place, thread or {}, wanted, channels)
        for entry in found.values():
            entry["writes"] = self._writes(entry["writes"])
            if "seed" in entry:
                entry["seed"] = self._load(entry["seed"])
        return found

    def _tuple(self, found: Any) -> Any:
        place, head, values, writes = found
        checkpoint = json.loads(head["checkpoint"])
        checkpoint["channel_values"] = {name: self._load(value) for name, value in values.items()}
        return CheckpointTuple(
            config=_config(place, head["id"]),
            checkpoint=checkpoint,
            metadata=self._load(head["metadata"]),
            parent_config=_config(place, head["parent"]) if head.get("parent") else None,
            pending_writes=self._writes(writes),
        )

    def _writes(self, writes: Any) -> Any:
        return [(task, channel, self._load(value)) for task, _, _, channel, *value in writes]

    def _dump(self, value: Any) -> Any:
        return to_text(self.serde.dumps_typed(value))

    def _load(self, typed: Any) -> Any:
        return self.serde.loads_typed(from_text(typed))

    get_tuple, aget_tuple = methods(_get_tuple)
    list, alist = generators(CheckpointTuple, _list)
    put, aput = methods(_put)
    put_writes, aput_writes = methods(_put_writes)
    delete_thread, adelete_thread = methods(_delete_thread)
    copy_thread, acopy_thread = methods(_copy_thread)
    prune, aprune = methods(_prune)
    get_delta_channel_history, aget_delta_channel_history = methods(_get_delta_channel_history)

    def get_next_version(self, current: Any, channel: Any) -> str:
        """A version that is greater, and another than that of a run that goes on from the same checkpoint."""
        number = int(str(current).split(".")[0]) if current is not None else 0
        return f"{number + 1:032}.{random.random():016}"


def _place(config: Any) -> Any:
    return place_of(config["configurable"]["thread_id"], config["configurable"].get("checkpoint_ns") or "")


def _config(place: Any, checkpoint: str) -> Any:
    thread, namespace = place.of
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}}
