"""What langgraph.py takes from langgraph-checkpoint, where that is not installed."""

from __future__ import annotations

from typing import Any, NamedTuple


class CheckpointTuple(NamedTuple):
    config: Any
    checkpoint: Any
    metadata: Any
    parent_config: Any = None
    pending_writes: Any = None


class BaseCheckpointSaver:
    """A checkpointer, but for its default serializer: `serde` is needed, with dumps_typed and loads_typed."""

    def __init__(self, *, serde: Any = None):
        if serde is None:
            raise TypeError("without langgraph-checkpoint a serde is needed")
        self.serde = serde


def get_checkpoint_metadata(config: Any, metadata: Any) -> Any:
    """The metadata of a checkpoint, and of its run what are scalars and not the framework's own."""
    own = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "langgraph_")
    merged = dict(metadata)
    for more in (config.get("metadata"), config.get("configurable")):
        for name, value in (more or {}).items():
            if isinstance(value, (str, int, float)) and not name.startswith(("__", *own)):
                merged.setdefault(name, value)
    return merged
