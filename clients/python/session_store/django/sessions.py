"""SESSION_ENGINE = "session_store.django.sessions"

A session is a document with the session's data as JSON, owned by the user that is logged in. With another
SESSION_SERIALIZER than Django's for JSON, the document holds the text that Django's own engines store.

A logout sticks: what a request saves after the session was logged out elsewhere is an UpdateError, which Django's
middleware answers as SessionInterrupted (400), and its key cannot be used again. A session ends SESSION_COOKIE_AGE, or
its own expiry, after it was last saved, as with Django's engines; reads do not prolong it.

SESSION_STORE["PREVIOUS"] names the engine that was used before. A session that is not here is looked for there and
moved here, once, under its key; its lifetime starts again. It is never one that was logged out here.
"""
from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Optional

from django.contrib.sessions.backends.base import VALID_KEY_CHARS, CreateError, SessionBase, UpdateError
from django.contrib.sessions.serializers import JSONSerializer
from django.db import transaction
from django.utils.crypto import get_random_string

from .. import ConflictError, DeadSessionError
from .. import SessionStore as Store
from .. import moving
from . import configured

ENCODED = "_encoded"  # the one member of a document that is not JSON data


class SessionStore(SessionBase):
    """Django's sessions in session_store."""

    _session_key: Optional[str]  # a property of Django's class, which accepts valid keys only

    @classmethod
    def store(cls) -> Store:
        """The store of all sessions, for calls that Django does not have: delete_all(str(user.pk)), say."""
        return configured.store()

    def load(self) -> Dict[str, Any]:
        document = self.store().get(self.session_key)
        if document is None:
            document = self._moved()
        if document is None:
            self._session_key = None
            return {}
        return self._data(document)

    def exists(self, session_key: str) -> bool:
        if not self._validate_session_key(session_key):
            return False
        previous = configured.previous()
        return self.store().exists(session_key) or (previous is not None and previous().exists(session_key))

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            return self.create()
        data = self._get_session(no_load=must_create)
        try:
            with configured.savepoint():
                self.store().save(self.session_key, self._document(data), if_version=0 if must_create else -1,
                                  owner=self._owner(data), expires_at=self._ends_at(data))
        except (ConflictError, DeadSessionError) as error:
            raise (CreateError if must_create else UpdateError) from error

    def delete(self, session_key: Optional[str] = None) -> None:
        key = session_key or self.session_key
        if key is None or not self._validate_session_key(key):
            return
        previous = configured.previous()
        if previous is None:
            self.store().delete(key)
        else:
            moving.end(self.store(), key, guard=configured.savepoint)
            transaction.on_commit(lambda: previous().delete(key), using=configured.alias())

    def cycle_key(self) -> None:
        data = self._session  # loaded before it gets another key
        if self.session_key is None:
            return self.create()
        key = self.store().regenerate(self.session_key, new_session_id=self._get_new_session_key())
        # Without a session it was logged out meanwhile: the key stays, and so save() is an UpdateError.
        if key is not None:
            self._session_key = key
        self._session_cache = data
        self.modified = True

    async def acycle_key(self) -> None:
        from asgiref.sync import sync_to_async
        await sync_to_async(self.cycle_key)()

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: the server removes what has expired."""

    # Keys: as Django makes them, and none that the store would refuse

    def _validate_session_key(self, key: Any) -> bool:
        return bool(key) and 8 <= len(key) <= 200 and key.isascii() and key.isprintable()

    def _get_new_session_key(self) -> str:
        return get_random_string(32, VALID_KEY_CHARS)  # save() finds out if it is in use

    # Documents

    def _document(self, data: Dict[str, Any]) -> Any:
        return data if issubclass(self.serializer, JSONSerializer) else {ENCODED: self.encode(data)}

    def _data(self, document: Any) -> Dict[str, Any]:
        if not isinstance(document, dict):
            return {}
        if ENCODED not in document:
            return document
        return {} if issubclass(self.serializer, JSONSerializer) else self.decode(document[ENCODED])

    @staticmethod
    def _owner(data: Dict[str, Any]) -> Optional[str]:
        user = data.get("_auth_user_id")
        return None if user is None else str(user)

    def _ends_at(self, data: Dict[str, Any]) -> datetime:
        age = self.get_expiry_age(expiry=data.get("_session_expiry"))
        return datetime.now(timezone.utc) + timedelta(seconds=age)

    # The engine that was used before

    def _moved(self) -> Any:
        previous, key = configured.previous(), self.session_key
        if previous is None or key is None or len(key) < moving.SHORTEST_ID:
            return None
        old = previous(key)
        data = old.load()
        if old.session_key is None or not data:
            return moving.moved(self.store(), key)
        document, done = moving.move(self.store(), key, self._document(data), owner=self._owner(data),
                                     expires_at=self._ends_at(data), guard=configured.savepoint)
        if done:
            transaction.on_commit(lambda: previous(key).delete(key), using=configured.alias())
        return document
