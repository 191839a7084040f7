"""Moving sessions here from the store that was used before: on their first read, once, under their own id.

A session is read there when it is not here, adopted, and then removed there. A logout ends it in both. So that a
request that has read it there cannot bring it back, a logout leaves a dead id here even if it was not moved yet.
"""
from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Optional, Tuple

from . import DeadSessionError, SessionStore
from .calls import Duration, Json, Moment

SHORTEST_ID = 16  # bytes: shorter ids cannot be adopted

Guard = Callable[[], ContextManager[Any]]  # around a call whose error is an answer


def move(store: SessionStore, session_id: str, document: Json, *, owner: Optional[str] = None,
         ttl: Optional[Duration] = None, expires_at: Optional[Moment] = None, guard: Guard = nullcontext
         ) -> Tuple[Json, bool]:
    """Adopts what the other store has. Returns the document that the session now has, None if it was logged out here;
    and whether it is to be removed there."""
    try:
        with guard():
            adopted = store.adopt(session_id, document, owner=owner, ttl=ttl, expires_at=expires_at)
    except DeadSessionError:
        return None, True
    if adopted:
        return document, True
    return moved(store, session_id), False  # another request was faster, and may have changed it


def moved(store: SessionStore, session_id: str) -> Json:
    """The document of a session that the other store does not have: another request may just have moved it."""
    return store.with_(reads="sql").get(session_id)


def end(store: SessionStore, session_id: str, *, guard: Guard = nullcontext) -> None:
    """Ends a session here, whether it was moved or not."""
    if store.delete(session_id) or len(session_id) < SHORTEST_ID:
        return
    try:
        with guard():
            store.adopt(session_id, {}, ttl=60)
        store.delete(session_id)
    except DeadSessionError:
        pass
