"""Checkpoints of a LangGraph thread in a session; clients/js has the same layout.

A put appends messages, the last of which is the *head* of the checkpoint. Values of channels are in the head,
and large ones are messages of their own. While a channel does not change, later heads refer to its value by
the seq of the message that has it, so that it is not written again, unless it is small.

The document has the head that was put last, so that one call reads it, and the writes that no put has moved
to the history yet. A put moves the writes of earlier checkpoints into a message, so that they are found
behind the head of their checkpoint: with one of the next puts, or anywhere if the document says that they are
`late`, as those of a checkpoint that a run went back to.

    document  {"of": [thread, namespace], "head": [head], "writes": {key: entry}, "late": {checkpoint: true}}
    message   head, {"id": checkpoint, "value": typed} or {"id": checkpoint, "writes": [entry, ..]}
    head      {"id", "parent", "follows": whether the head before it was its parent's,
              "checkpoint": JSON text without values, "metadata": typed,
              "values": {channel: typed, or the seq of the message that has it, or its place before the head}}
    entry     [checkpoint, write, ..], writes that replace each other: of a task, or a special write of it
    write     [task, path, index, channel, *typed]
    typed     [type, text] as the serializer has it, in base64 unless the type is json

The functions that have a store are operations, see _steps.py.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Callable, NamedTuple

from ._steps import next_of
from .ids import id_of, id_start

LARGE = 1024  # characters: longer values are messages of their own
SMALL = 256  # characters: shorter values are copied from head to head
NEAR = 8  # messages around the one that is searched: ids of clients at work at the same time are out of order
PAGE = 100
HEADS = 3  # behind a checkpoint that its writes are with, unless they are late
SPECIAL = {
    "__error__": -1,
    "__scheduled__": -2,
    "__interrupt__": -3,
    "__resume__": -4,
}  # indexes of LangGraph


class Place(NamedTuple):
    """Where the checkpoints of a thread in a namespace are."""

    session_id: str
    of: list[str]


class Found(NamedTuple):
    place: Place
    head: dict[str, Any]
    values: dict[str, Any]  # of channels, typed
    writes: list[Any]


def to_text(typed: tuple[str, bytes]) -> list[str]:
    kind, data = typed
    return [kind, bytes(data).decode() if kind == "json" else base64.b64encode(data).decode()]


def from_text(typed: list[str]) -> tuple[str, bytes]:
    kind, text = typed
    return kind, text.encode() if kind == "json" else base64.b64decode(text)


def _key(entry: list[Any]) -> str:
    checkpoint, (task, _, index, channel, *_) = entry[:2]
    key = [checkpoint, task, channel if index < 0 else ""]
    return json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def write_entries(
    checkpoint: str, task: str, path: str, writes: list[tuple[str, list[str]]]
) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for place, (channel, typed) in enumerate(writes):
        write = [task, path, SPECIAL.get(channel, place), channel, *typed]
        entry = [checkpoint, write]
        if channel in SPECIAL or _key(entry) not in entries:
            entries[_key(entry)] = entry
        else:
            entries[_key(entry)].append(write)
    return entries


def _writes(entries: Any) -> list[Any]:
    """In the order of tasks, and in each in the order in which it wrote."""
    return sorted((write for entry in entries for write in entry[1:]), key=lambda write: (write[0], write[2]))


def place_of(thread: Any, namespace: str) -> Place:
    return Place(id_of(namespace, _prefix(thread)), [str(thread), namespace])


def start_of(thread: Any) -> str:
    """What the ids of a thread's sessions begin with, and those of no other thread."""
    return id_start(_prefix(thread))


def _prefix(thread: Any) -> str:
    return str(thread).replace("%", "%25").replace("/", "%2F") + "/"


def put(store: Any, place: Place, head: Any, dumps: dict[str, Any], changed: Any) -> Any:
    """Stores a checkpoint. `dumps` has its channels; a value is dumped unless the previous checkpoint has
    it."""
    session_id, of = place
    thread = (yield store.get(session_id)) or {}
    (previous,) = thread.get("head") or [None]
    follows = previous is not None and previous["id"] == head["parent"]
    moved = {key: entry for key, entry in thread.get("writes", {}).items() if entry[0] < head["id"]}
    messages: list[Any] = [{"id": head["id"], "writes": list(moved.values())}] if moved else []
    unchanged = [name for name in dumps if name not in changed]
    kept = (yield from _keep(store, session_id, previous, unchanged)) if follows else {}
    values, large = {}, {}
    for name, dump in dumps.items():
        value = kept.get(name) or dump()
        if isinstance(value, int) or len(value[1]) <= LARGE:
            values[name] = value
        else:
            large[name] = len(messages)
            messages.append({"id": head["id"], "value": value})
    values.update({name: place - len(messages) for name, place in large.items()})
    head = {**head, "follows": follows, "values": values}
    near = [previous["id"]] if follows else []
    if follows and previous.get("follows"):
        near.append(previous["parent"])
    late = {entry[0]: True for entry in moved.values() if entry[0] not in near}
    if previous is not None and head["id"] <= previous["id"]:
        late[head["id"]] = True  # put again perhaps: then its writes may be before this head
    patch = {"of": of, "head": [head], "writes": dict.fromkeys(moved), "late": late}
    yield store.append(session_id, [*messages, head], patch=patch)


def _keep(store: Any, session_id: str, previous: Any, names: list[str]) -> Any:
    """What a head has of channels that have not changed since the one before it."""
    kept, last = {}, None
    for name in names:
        value = previous["values"].get(name)
        if value is None or (value > 0 if isinstance(value, int) else len(value[1]) <= SMALL):
            kept[name] = value
            continue
        (last,) = [last] if last else (yield store.history(session_id, last=1)) or [None]
        if last and _is_head(last, previous["id"]):
            kept[name] = last.seq + (value if isinstance(value, int) else 0)
    return kept


def threads(store: Any, configurable: Any, visit: Callable[[Place, Any], Any]) -> Any:
    """An operation on each session of a config, which may name no thread and no namespace."""
    if "thread_id" in configurable and "checkpoint_ns" in configurable:
        place = place_of(configurable["thread_id"], configurable["checkpoint_ns"])
        thread = yield store.get(place.session_id)
        if thread is not None:
            yield from visit(place, thread)
        return
    prefix = start_of(configurable["thread_id"]) if "thread_id" in configurable else ""
    after, rows = None, None
    while rows is None or len(rows) == PAGE:
        rows = yield store.list(id_prefix=prefix, after=after, page_size=PAGE, with_data=True)
        for row in rows:
            after = row.page_cursor
            of = row.session_data.get("of") if isinstance(row.session_data, dict) else None
            if of and configurable.get("checkpoint_ns", of[1]) == of[1]:
                yield from visit(place_of(*of), row.session_data)


def keep_latest(store: Any, place: Place, thread: Any) -> Any:
    """Stores the latest checkpoint again and removes what is before it. A put at the same time could be
    lost."""
    (latest,) = thread.get("head") or [None]
    found = latest and (yield from find(store, place, thread, latest["id"]))
    if found:
        writes = [key for key, entry in thread.get("writes", {}).items() if entry[0] != latest["id"]]
        large = [name for name, value in found.values.items() if len(value[1]) > LARGE]
        messages = [{"id": latest["id"], "value": found.values[name]} for name in large]
        places = {name: at - len(large) for at, name in enumerate(large)}
        head = {**latest, "follows": False, "values": {**found.values, **places}}
        patch = {"head": [head], "writes": dict.fromkeys(writes), "late": None}
        yield store.append(place.session_id, [*messages, head], patch=patch, keep=len(messages) + 1)


def copy(store: Any, target: Any, place: Place, thread: Any) -> Any:
    to = place_of(target, place.of[1])
    if (yield store.fork(place.session_id, new_session_id=to.session_id)):
        yield store.append(to.session_id, [], patch={"of": to.of})


def history_of(store: Any, place: Place, thread: Any, wanted: str | None, channels: Any) -> Any:
    """For each channel the writes of the checkpoints before one, oldest first, back to the nearest that has a
    value of the channel, and that value: {channel: {"writes": [write, ..], "seed": typed}}."""
    result: dict[str, Any] = {channel: {"writes": []} for channel in channels}
    wanted = wanted or (thread.get("head") or [{}])[0].get("id")
    found = yield from find(store, place, thread, wanted)
    parent = found.head.get("parent") if found else None
    steps = backwards(store, wanted, lambda head: head["id"] == parent, place, thread)
    while parent and (found := (yield from next_of(Found, steps))):
        parent = found.head.get("parent")
        for channel in channels:
            if "seed" not in result[channel]:
                result[channel]["writes"][:0] = [write for write in found.writes if write[3] == channel]
                if channel in found.values:
                    result[channel]["seed"] = found.values[channel]
        if all("seed" in entry for entry in result.values()):
            break
    return result


def find(store: Any, place: Place, thread: Any, wanted: str) -> Any:
    """The checkpoint of this id, None if there is none."""
    session_id = place.session_id
    if not thread.get("head"):
        return None
    (latest,) = thread["head"]
    if wanted == latest["id"] and wanted not in thread.get("late", {}):
        first = min([0, *(value for value in latest["values"].values() if isinstance(value, int))])
        rows = (yield store.history(session_id, last=1 - first)) if first < 0 else []
        if first == 0 or rows and _is_head(rows[-1], wanted):
            values = yield from _values(store, session_id, latest, rows)
            return Found(place, latest, values, _writes(_pending(thread, wanted).values()))
    rows = yield from _search(store, session_id, wanted)
    if not rows:
        return None
    head = rows[-1].message
    values = yield from _values(store, session_id, head, rows)
    writes = yield from _writes_of(store, session_id, thread, wanted, rows[-1].seq)
    return Found(place, head, values, writes)


def backwards(store: Any, end: str | None, accepts: Callable[[Any], bool], place: Place, thread: Any) -> Any:
    """The checkpoints before one, newest first: a stream of Found."""
    session_id = place.session_id
    entries: dict[str, dict[str, Any]] = {}

    def add_older(more: Any) -> None:
        for entry in more:
            entries.setdefault(entry[0], {}).setdefault(_key(entry), entry)

    add_older(thread.get("writes", {}).values())
    seen = set()
    before, page = None, None
    if end is not None:
        before = (yield from _narrow(store, session_id, end))[1] + 4 * NEAR
    while page is None or len(page) == PAGE:
        page = yield store.history(session_id, last=PAGE, before=before)
        for at in range(len(page) - 1, -1, -1):
            seq, message = page[at].seq, page[at].message
            before = seq
            add_older(message.get("writes", ()))
            if "checkpoint" not in message or message["id"] in seen:
                continue
            seen.add(message["id"])
            found = entries.pop(message["id"], {}).values()
            if end is not None and message["id"] >= end or not accepts(message):
                continue
            late = message["id"] in thread.get("late", {})
            writes = _writes(found)
            if late:
                writes = yield from _writes_of(store, session_id, thread, message["id"], seq)
            values = yield from _values(store, session_id, message, page[: at + 1])
            yield Found(place, message, values, writes)


def _is_head(row: Any, checkpoint: str) -> bool:
    return row.message["id"] == checkpoint and "checkpoint" in row.message


def _values(store: Any, session_id: str, head: Any, rows: list[Any]) -> Any:
    """The values of a head. `rows` is some of the history, and ends with the head if it has large values."""
    known = {row.seq: row.message for row in rows}
    values = {}
    for name, value in head["values"].items():
        if isinstance(value, int):
            seq = value if value > 0 else rows[-1].seq + value
            if seq not in known:
                row = yield store.history(session_id, after=seq - 1, first=1)
                known.update({seq: message for seq, message, _ in row})
            message = known.get(seq, {})
            value = message["value"] if "value" in message else message.get("values", {}).get(name)
            if not isinstance(value, list):
                raise LookupError(f"the value of the channel {name} was removed from the history")
        values[name] = value
    return values


def _search(store: Any, session_id: str, wanted: str) -> Any:
    """The history up to the head of a checkpoint, empty if there is none."""
    low, high = yield from _narrow(store, session_id, wanted)
    rows = yield store.history(session_id, after=max(low - NEAR, 0), before=high + NEAR + 1)
    heads = [at for at, row in enumerate(rows) if _is_head(row, wanted)]
    if heads:
        return rows[: heads[-1] + 1]
    found: list[Any] = []  # ids that are not in order
    after = 0
    while rows := (yield store.history(session_id, after=after, first=PAGE)):
        found = [row for row in rows if _is_head(row, wanted)][-1:] or found
        after = rows[-1].seq
    return found


def _narrow(store: Any, session_id: str, wanted: str) -> Any:
    """Between which seqs the last message of a checkpoint is, if ids are in order."""
    newest = yield store.history(session_id, last=1)
    low, high = 0, newest[0].seq if newest else 0
    while high - low > NEAR:
        middle = (low + high) // 2
        row = yield store.history(session_id, after=middle, first=1)
        if row and row[0].seq <= high and row[0].message["id"] <= wanted:
            low = row[0].seq - 1
        else:
            high = middle
    return low, high


def _writes_of(store: Any, session_id: str, thread: Any, wanted: str, seq: int) -> Any:
    """The writes of a checkpoint whose head has this seq. Later ones replace earlier ones."""
    late, found, passed, after, rows = wanted in thread.get("late", {}), {}, 0, seq, None
    size = PAGE if late else 2 * NEAR
    while (late or passed < HEADS) and (rows is None or len(rows) == size):
        rows = yield store.history(session_id, after=0 if late and rows is None else after, first=size)
        for row in rows:
            after = row.seq
            entries = row.message.get("writes", ())
            found.update({_key(entry): entry for entry in entries if entry[0] == wanted})
            passed += "checkpoint" in row.message
            if passed == HEADS and not late:
                break
    return _writes({**found, **_pending(thread, wanted)}.values())


def _pending(thread: Any, checkpoint: str) -> dict[str, Any]:
    return {key: entry for key, entry in thread.get("writes", {}).items() if entry[0] == checkpoint}
