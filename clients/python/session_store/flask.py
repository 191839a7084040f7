"""Sessions of Flask, in place of Flask-Session:

    app.session_interface = SessionStoreInterface(SessionStore(pool, namespace="web"))

A session is a document in the JSON of Flask's own sessions, in which tuples, bytes, datetimes and UUIDs are tagged. It
ends PERMANENT_SESSION_LIFETIME after its last use, in a sliding namespace. The configuration is Flask's and
SESSION_PERMANENT of Flask-Session; `flask.session` has `sid`.

A logout (`session.clear()`) sticks: a request that runs meanwhile is answered, saves nothing, and loses its cookie.
"""
from __future__ import annotations

import secrets
from typing import Any, Optional

from flask import Response
from flask import request as current_request
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.datastructures import CallbackDict

from . import ConflictError, DeadSessionError, SessionStore, moving
from .ids import is_id


class ServerSideSession(CallbackDict, SessionMixin):  # type: ignore[type-arg]
    """A session. Changes inside its values are not seen: set `modified` after them."""

    def __init__(self, data: Any, sid: str, *, new: bool = False) -> None:
        super().__init__(data, self._note)
        self.sid, self.new, self.modified = sid, new, False

    def _note(self, session: Any) -> None:
        self.modified = True

    def __bool__(self) -> bool:
        return bool(self.keys() - {"_permanent"})

    def clear(self) -> None:
        """Removes everything, which logs out, unless something is put in again."""
        for name in self.keys() - {"_permanent"}:
            del self[name]
        self.modified = True


class SessionStoreInterface(SessionInterface):
    """Sessions in `store`.

    owner       the name of the member of a session that names its owner; Flask-Login's by default
    previous    the session interface that was used before (of Flask-Session, without SESSION_USE_SIGNER): a session
                that is not here is looked for there, and moved here once
    """

    session_class = ServerSideSession

    def __init__(self, store: SessionStore, *, owner: str = "_user_id", previous: Optional[SessionInterface] = None
                 ) -> None:
        self.store, self.owner, self.previous = store, owner, previous
        self._tags = TaggedJSONSerializer()

    def open_session(self, app: Any, request: Any) -> ServerSideSession:
        sid = request.cookies.get(self.get_cookie_name(app))
        if sid and is_id(sid):
            document = self.store.get(sid)
            if document is None and self.previous is not None:
                document = self._moved(app, request, sid)
            if isinstance(document, dict):
                return self.session_class(self._untagged(document), sid)
        session = self.session_class({}, secrets.token_urlsafe(32), new=True)
        if app.config.get("SESSION_PERMANENT", True):
            session.permanent = True
            session.modified = False
        return session

    def save_session(self, app: Any, session: Any, response: Any) -> None:
        if not session:
            if session.modified and not session.new:
                self._end(app, session.sid)
                self._remove_cookie(app, response)
            return
        if session.modified:
            try:
                self.store.save(session.sid, self._tags.tag(dict(session)), if_version=0 if session.new else -1,
                                ttl=app.permanent_session_lifetime, owner=self._owner(session))
            except (ConflictError, DeadSessionError):  # it was logged out while the request was running
                self._remove_cookie(app, response)
                return
        if self.should_set_cookie(app, session):
            response.set_cookie(self.get_cookie_name(app), session.sid,
                                expires=self.get_expiration_time(app, session),
                                httponly=self.get_cookie_httponly(app), **self._cookie(app))
            response.vary.add("Cookie")

    def regenerate(self, session: ServerSideSession) -> None:
        """Gives the session another id, which a login should do."""
        new_sid = secrets.token_urlsafe(32)
        # Without a session here it was logged out meanwhile: then it keeps its id, under which nothing is saved.
        if session.new or self.store.regenerate(session.sid, new_session_id=new_sid) is not None:
            session.sid = new_sid
        session.modified = True

    def _owner(self, session: Any) -> Optional[str]:
        owner = session.get(self.owner)
        return None if owner is None else str(owner)

    def _cookie(self, app: Any) -> Any:
        options = {"domain": self.get_cookie_domain(app), "path": self.get_cookie_path(app),
                   "secure": self.get_cookie_secure(app), "samesite": self.get_cookie_samesite(app)}
        if hasattr(self, "get_cookie_partitioned"):  # Flask 3.1
            options["partitioned"] = self.get_cookie_partitioned(app)
        return options

    def _remove_cookie(self, app: Any, response: Any) -> None:
        response.delete_cookie(self.get_cookie_name(app), httponly=self.get_cookie_httponly(app), **self._cookie(app))
        response.vary.add("Cookie")

    def _untagged(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._tags.untag({name: self._untagged(each) for name, each in value.items()})
        return [self._untagged(each) for each in value] if isinstance(value, list) else value

    # The store that was used before, by its own interface

    def _moved(self, app: Any, request: Any, sid: str) -> Any:
        old = self._found_before(app, request, sid)
        if old is None:
            return moving.moved(self.store, sid)
        document, done = moving.move(self.store, sid, self._tags.tag(dict(old)), owner=self._owner(old),
                                     ttl=app.permanent_session_lifetime)
        if done:
            self._remove_before(app, old)
        return document

    def _end(self, app: Any, sid: str) -> Any:
        if self.previous is None:
            return self.store.delete(sid)
        moving.end(self.store, sid)
        old = self._found_before(app, current_request, sid)
        if old is not None:  # it was moved, but not removed there
            self._remove_before(app, old)

    def _found_before(self, app: Any, request: Any, sid: str) -> Any:
        old: Any = self.previous.open_session(app, request)  # type: ignore[union-attr]
        found = len(sid) >= moving.SHORTEST_ID and getattr(old, "sid", None) == sid and set(old) - {"_permanent"}
        return old if found else None

    def _remove_before(self, app: Any, old: Any) -> None:
        old.clear()
        old.modified = True
        self.previous.save_session(app, old, Response())  # type: ignore[union-attr]
