"""Sessions of Django over session_store: SESSION_ENGINE = "session_store"

Reads from the Redis of the cache "sessions" while it has a lease and the session, else by SQL. Wants a
namespace that does not slide, for Django's sessions live from their last save on, and session_store.fence = all,
so that the next request of a browser sees what the last one saved. A session is JSON, not signed text.
"""
import json

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.db import DatabaseError, connection
from django_redis import get_redis_connection

NAMESPACE = "bench"
PREFIX = "bench:"
ENDED = ("40001", "SST10")  # there is no such session; or one, where there should be none


def call(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + sql, values)
        return cursor.fetchone()[0]


class SessionStore(SessionBase):
    def load(self):
        lease, copy = get_redis_connection("sessions").mget("session_store:lease", PREFIX + self.session_key)
        if lease is None or copy is None:
            copy = call("session_get(%s, %s)::text", self.session_key, NAMESPACE)
        if copy is None:
            self._session_key = None
            return {}
        return json.loads(copy)

    def exists(self, session_key):
        return call("session_exists(%s, %s)", session_key, NAMESPACE)

    def create(self):
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create=False):
        if self.session_key is None:
            return self.create()
        data = json.dumps(self._get_session(no_load=must_create))
        try:
            # 0: only where there is none; -1: only where there is one
            call("session_save(%s, %s, make_interval(secs => %s), if_version => %s, namespace => %s)",
                 self.session_key, data, self.get_expiry_age(), 0 if must_create else -1, NAMESPACE)
        except DatabaseError as error:
            if getattr(error.__cause__, "pgcode", None) not in ENDED:
                raise
            raise CreateError if must_create else UpdateError

    def delete(self, session_key=None):
        key = session_key or self.session_key
        if key is not None:
            call("session_delete(%s, %s)", key, NAMESPACE)

    @classmethod
    def clear_expired(cls):
        pass  # the keeper does
