"""Reads from Redis: a copy, the lease that makes it valid, and leaving a Redis alone that failed.

Commands go through connections of the store's own. They are made like those of the caller's client, but answer
within `timeout` seconds or fail, and neither retry nor cache. So a Redis that hangs delays no caller for longer than
that, whatever the caller's client is set to, and a hung read occupies none of the caller's connections.
"""
from __future__ import annotations

import asyncio
import copy
import hashlib
import time
from typing import Any, List, Optional

from . import documents

LEASE = b"session_store:lease"
REST = 1.0  # seconds that Redis is left alone after a failure


class Copies:
    """Documents and tails in one Redis. `read` and `read_async` return the values of the keys, or None if one is
    missing. LEASE may be the first key, and has no value."""

    def __init__(self, client: Any, timeout: float) -> None:
        self._client = _bounded(client, timeout)
        self._resting_until: Optional[float] = None  # None: the last command worked

    def read(self, keys: List[bytes]) -> Optional[List[Any]]:
        if not self._admit():
            return None
        try:
            found = _values(keys, self._client.mget(keys))
        except Exception:  # whatever Redis does, SQL answers
            self._resting_until = time.monotonic() + REST
            return None
        self._resting_until = None
        return found

    async def read_async(self, keys: List[bytes]) -> Optional[List[Any]]:
        if not self._admit():
            return None
        # Shielded: a command that is canceled halfway could leave its answer to the next one on the connection.
        return await asyncio.shield(asyncio.ensure_future(self._read_async(keys)))

    async def _read_async(self, keys: List[bytes]) -> Optional[List[Any]]:
        try:
            found = _values(keys, await self._client.mget(keys))
        except Exception:
            self._resting_until = time.monotonic() + REST
            return None
        self._resting_until = None
        return found

    def _admit(self) -> bool:
        """Whether to try Redis now: after a failure one caller in a second does."""
        if self._resting_until is not None:
            now = time.monotonic()
            if now < self._resting_until:
                return False
            self._resting_until = now + REST
        return True


def key(prefix: str, session_id: str, hashed: bool) -> bytes:
    name = session_id.encode()
    return prefix.encode() + (hashlib.sha256(name).hexdigest().encode() if hashed else name)


def _values(keys: List[bytes], answers: List[Any]) -> Optional[List[Any]]:
    if None in answers:
        return None
    return [documents.decode(answer.decode()) for answer in answers[keys[0] == LEASE:]]


def _bounded(client: Any, timeout: float) -> Any:
    """A client like the caller's, with connections of its own that fail after `timeout` seconds."""
    pool = copy.copy(client.connection_pool)
    settings = dict(pool.connection_kwargs, socket_timeout=timeout, decode_responses=False, retry_on_timeout=False,
                    retry_on_error=[])
    if "path" not in settings:  # a Unix socket has no other limit than socket_timeout
        settings["socket_connect_timeout"] = timeout
    pool.connection_kwargs = {name: value for name, value in settings.items()
                              if name not in ("retry", "cache", "cache_config")}
    if hasattr(pool, "cache"):
        pool.cache = None
    if hasattr(pool, "timeout"):  # of a BlockingConnectionPool
        pool.timeout = timeout
    pool.reset()
    pool.connection_class(**pool.connection_kwargs)  # settings that it does not take are an error now, not a miss
    return type(client)(connection_pool=pool)
