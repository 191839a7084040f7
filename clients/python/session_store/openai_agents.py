"""Session of openai-agents: the items of a conversation are the history of a session.

    session = SessionStoreSession("conversation-1", AsyncSessionStore(pool))
    await Runner.run(agent, "Hello", session=session)
"""

from __future__ import annotations

from typing import Any

try:
    from agents.memory import SessionSettings
except ImportError:  # the class implements the protocol without it
    SessionSettings = None  # type: ignore[assignment, misc]

_INT_MAX = 2**31 - 1


class SessionStoreSession:
    """One conversation. Every method is one call of the store; nothing is kept here between calls.

    `store` is an AsyncSessionStore. `owner` is the owner of the session if add_items creates it.
    `session_settings` (a SessionSettings or a dict) may have a default `limit` for get_items.
    """

    def __init__(
        self, session_id: str, store: Any, *, owner: str | None = None, session_settings: Any = None
    ) -> None:
        if isinstance(session_settings, dict) and SessionSettings is not None:
            session_settings = SessionSettings(**session_settings)
        self.session_id = session_id
        self.session_settings = session_settings
        self._store = store
        self._owner = owner

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The newest `limit` items, or all, oldest first. A conversation that has ended has none."""
        if limit is None and self.session_settings is not None:
            settings = self.session_settings
            limit = settings.get("limit") if isinstance(settings, dict) else settings.limit
        if limit is not None and limit <= 0:
            return []
        last = None if limit is None else min(limit, _INT_MAX)
        return [row.message for row in await self._store.history(self.session_id, last=last)]

    async def add_items(self, items: list[Any]) -> None:
        """Appends the items, all or none. Raises DeadSessionError if the session was logged out."""
        if items:
            await self._store.append(self.session_id, list(items), owner=self._owner)

    async def pop_item(self) -> Any | None:
        """Removes the newest item and returns it, None if there is none."""
        items = await self._store.pop(self.session_id)
        return items[0] if items else None

    async def clear_session(self) -> None:
        """Removes all items. The session stays, with its document and owner; `store.delete` logs it out."""
        await self._store.trim(self.session_id, 0)
