"""CACHES = {"default": {"BACKEND": "session_store.django.cache.SessionStoreCache", "OPTIONS": {"NAMESPACE": "cache"}}}

An entry is a session with a fixed expiry. Integers are numbers in its document, so that incr() is atomic; all other
values are pickled, as in Django's own caches. The cache needs a namespace of its own, whose tombstone is '0', since
names are reused: clear() ends every session in it. Entries are not culled: each ends with its timeout.
"""
from __future__ import annotations

import base64
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Iterable, Optional, Union

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from .. import ConflictError
from ..ids import id_of
from . import make_store, savepoint

NUMBER, PICKLE = "number", "pickle"
_LONGEST = 36500 * 86400  # seconds; a timeout of a century is one for ever


class SessionStoreCache(BaseCache):
    """Django's cache in session_store. LOCATION is not used."""

    def __init__(self, location: str, params: Dict[str, Any]) -> None:
        super().__init__(params)
        options = {name: value for name, value in params.get("OPTIONS", {}).items()
                   if name not in ("MAX_ENTRIES", "CULL_FREQUENCY")}
        self._store = make_store(options)
        self._alias = options.get("DATABASE", "default")

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        document = _document(value)
        try:
            with savepoint(self._alias):
                self._store.save(self._id(key, version), document, if_version=0, expires_at=self._ends_at(timeout))
            return True
        except ConflictError:
            return False

    def get(self, key: Any, default: Any = None, version: Optional[int] = None) -> Any:
        document = self._store.get(self._id(key, version))
        return default if document is None else _value(document)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Optional[int] = None) -> None:
        self._store.save(self._id(key, version), _document(value), expires_at=self._ends_at(timeout))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        return self._store.touch(self._id(key, version), expires_at=self._ends_at(timeout)) is not None

    def delete(self, key: Any, version: Optional[int] = None) -> bool:
        return self._store.delete(self._id(key, version))

    def has_key(self, key: Any, version: Optional[int] = None) -> bool:
        return self._store.exists(self._id(key, version))

    def get_many(self, keys: Iterable[Any], version: Optional[int] = None) -> Dict[Any, Any]:
        ids = {key: self._id(key, version) for key in keys}
        found = zip(ids, self._store.get_many(list(ids.values())))
        return {key: _value(document) for key, document in found if document is not None}

    def incr(self, key: Any, delta: int = 1, version: Optional[int] = None) -> Any:
        """Atomic for integers. An entry that ends between the two calls begins again at delta."""
        session_id = self._id(key, version)
        document = self._store.with_(reads="sql").get(session_id)
        if document is None:
            raise ValueError(f"Key '{key}' not found")
        if NUMBER not in document:
            return super().incr(key, delta, version)
        return self._store.incr(session_id, [NUMBER], by=delta)

    def clear(self) -> None:
        self._store.clear()

    def _id(self, key: Any, version: Optional[int]) -> str:
        made = self.make_key(key, version)
        self.validate_key(made)
        return id_of(made)

    def _ends_at(self, timeout: Any) -> Union[datetime, str]:
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        if seconds is None or seconds > _LONGEST:
            return "infinity"
        # 0 and less: a second ago, which ends the entry at once
        return datetime.now(timezone.utc) + timedelta(seconds=seconds if seconds > 0 else -1)


def _document(value: Any) -> Dict[str, Any]:
    if type(value) is int:
        return {NUMBER: value}
    return {PICKLE: base64.b64encode(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)).decode("ascii")}


def _value(document: Dict[str, Any]) -> Any:
    if NUMBER in document:
        return document[NUMBER]
    return pickle.loads(base64.b64decode(document[PICKLE]))
