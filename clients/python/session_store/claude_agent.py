"""SessionStore of claude-agent-sdk: the entries of a transcript are the history of a session.

    store = AsyncSessionStore(pool, namespace="transcripts")
    options = ClaudeAgentOptions(session_store=ClaudeSessionStore(store))

The session of a main transcript has the id `PROJECT:SESSION:`, that of a subagent `PROJECT:SESSION:SUBPATH`,
each part encoded as in a URL. The document of a main transcript has its summary, and how many entries it
covers.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import quote, unquote

from . import OperationReusedError

try:
    from claude_agent_sdk import SessionStore as Protocol
    from claude_agent_sdk import fold_session_summary as sdk_fold
except ImportError:  # the class implements the protocol without it, only there are no summaries
    Protocol, sdk_fold = object, None  # type: ignore[assignment, misc]


class ClaudeSessionStore(Protocol):  # type: ignore[misc, valid-type]
    """Transcripts in `store`, an AsyncSessionStore. `owner` is the owner of the sessions that append creates.

    Summaries are maintained by the SDK's fold_session_summary, so that it lists sessions without loading
    them. That is one more call an append to a main transcript; with `fold_session_summary=None` there are
    none.
    """

    def __init__(self, store: Any, *, owner: str | None = None, fold_session_summary: Any = sdk_fold):
        self._store = store.with_(reads="sql")  # a copy may be older than the last append
        self._owner = owner
        self._fold = fold_session_summary

    async def append(self, key: Any, entries: list[Any]) -> None:
        """Appends a batch, all or nothing. A batch that has a uuid and is sent again, as the SDK does after
        an error, is stored once. Raises DeadSessionError if the transcript was deleted."""
        if not entries:
            return
        session_id, operation, patch = _id(key), None, None
        if any(_uuid(entry) for entry in entries):
            operation = _digest(json.dumps(entries, sort_keys=True))
        if not key.get("subpath") and self._fold is not None:
            patch = _folded(self._fold, await self._store.get(session_id), key, entries)
        try:
            await self._store.append(
                session_id, entries, operation_id=operation, owner=self._owner, patch=patch
            )
        except OperationReusedError:
            pass  # The operation names the entries, so they are stored. It is the patch that was another.

    async def load(self, key: Any) -> list[Any] | None:
        """The entries, None if there are none. Of entries with the same uuid the first is returned."""
        entries: dict[Any, Any] = {}
        for row in await self._store.history(_id(key)):
            entries.setdefault(_uuid(row.message) or row.seq, row.message)
        return list(entries.values()) or None

    async def list_sessions(self, project_key: str) -> list[Any]:
        return [{"session_id": name, "mtime": mtime} async for name, mtime, _ in self._main_rows(project_key)]

    async def list_session_summaries(self, project_key: str) -> list[Any]:
        """The summaries that cover all entries. One does not if two processes have appended to its transcript
        at the same time; the SDK then makes it from the entries, as where there is none."""
        return [
            {"session_id": name, "mtime": mtime, "data": json.loads(row.session_data["summary"])}
            async for name, mtime, row in self._main_rows(project_key, with_data=True)
            if isinstance(row.session_data, dict) and row.session_data.get("count") == row.message_count
        ]

    async def list_subkeys(self, key: Any) -> list[str]:
        prefix = _prefix(key)
        ids = [row.session_id async for row in self._store.sessions(id_prefix=prefix) if row.message_count]
        return [unquote(session_id[len(prefix) :]) for session_id in ids if session_id != prefix]

    async def delete(self, key: Any) -> None:
        """Deletes a transcript, and with a main one those of its subagents. Processes that still write to it
        are refused as long as the namespace's tombstone lasts."""
        if not key.get("subpath"):
            await self._store.clear(id_prefix=_prefix(key))
        else:
            await self._store.delete(_id(key))

    async def _main_rows(self, project_key: str, with_data: bool = False) -> Any:
        prefix = _project(project_key)
        async for row in self._store.sessions(id_prefix=prefix, id_like="%:", with_data=with_data):
            if row.message_count:
                mtime = int(row.updated_at.timestamp() * 1000)
                yield unquote(row.session_id[len(prefix) : -1]), mtime, row


def _folded(fold: Any, document: Any, key: Any, entries: list[Any]) -> dict[str, Any]:
    """The patch that makes a summary cover the entries as well. It is text, in which a merge changes
    nothing."""
    before, count = None, 0
    if isinstance(document, dict) and "summary" in document:
        count = document.get("count", 0)
        before = {"session_id": key["session_id"], "mtime": 0, "data": json.loads(document["summary"])}
    summary = fold(before, key, entries)
    return {"summary": json.dumps(summary["data"]), "count": count + len(entries)}


def _uuid(entry: Any) -> str | None:
    uuid = entry.get("uuid")
    return uuid if isinstance(uuid, str) else None


def _id(key: Any) -> str:
    return _prefix(key) + _quote(key.get("subpath") or "")


def _prefix(key: Any) -> str:
    return f"{_project(key['project_key'])}{_quote(key['session_id'])}:"


def _project(name: str) -> str:
    quoted = _quote(name)
    return (quoted if len(quoted) <= 60 else "=" + _digest(name)) + ":"


def _quote(name: str) -> str:
    return quote(name, safe="-_.!~*'()")  # encodeURIComponent() of JavaScript


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
