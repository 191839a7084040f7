"""session_store: sessions and conversations in PostgreSQL, read from Redis.

    store = SessionStore(pool, redis=redis_client, namespace="web")
    session_id = store.create({"user": "ada"}, ttl=3600)
    store.get(session_id)

SessionStore works over psycopg 3 or psycopg2, AsyncSessionStore over psycopg 3. Both have the same methods.
"""
from __future__ import annotations

import copy
from typing import Any, AsyncIterator, Dict, Iterator, List, Optional, TypeVar

from . import calls, connections, documents
from .calls import (Calls, Duration, Hits, Item, Json, Member, Message, Moment, Record, Statement, Summary,
                    Turn, WindowMessage)
from .errors import (ConflictError, DeadSessionError, InvalidArgumentError, NoNamespaceError, NotAllowedError,
                     OperationReusedError, QuotaError, SessionStoreError, TooLargeError, TurnLostError,
                     UnavailableError, translate)
from .reads import LEASE, Copies, key

__all__ = [
    "AsyncSessionStore", "ConflictError", "DeadSessionError", "Hits", "InvalidArgumentError", "Item",
    "Member", "Message", "NoNamespaceError", "NotAllowedError", "OperationReusedError", "QuotaError", "Record",
    "SessionStore", "SessionStoreError", "Summary", "TooLargeError", "Turn", "TurnLostError", "UnavailableError",
    "WindowMessage",
]
__version__ = "1.0.0"

Store = TypeVar("Store", bound="_Store")


class _Store(Calls):
    """What both classes share: options, and which reads go to Redis.

    connection  a connection, used as it is; or a pool, or a function that returns a context manager of a
                connection, from which each call takes one and commits unless it is in a transaction
    redis       a client of redis-py (redis.asyncio for AsyncSessionStore), or None
    reads       'sql', 'plain' or 'strong'; by default 'strong' with redis, else 'sql'
    namespace   without one the server's setting session_store.namespace decides, and reads are 'sql'
    key_prefix, tail_prefix, hash_keys   as the namespace has them. key_prefix is by default the namespace and
                a colon, 'session:' for the default one; without tail_prefix tails are read by SQL
    redis_timeout   seconds after which Redis counts as failed
    schema      of the extension, if it is not on the search_path
    """

    def __init__(self, connection: Any, *, redis: Any = None, reads: Optional[str] = None,
                 namespace: Optional[str] = None, key_prefix: Optional[str] = None,
                 tail_prefix: Optional[str] = None, hash_keys: bool = False, redis_timeout: float = 0.1,
                 schema: Optional[str] = None) -> None:
        self._redis, self._redis_timeout = redis, redis_timeout
        self._copies: Optional[Copies] = None
        self._source, self._borrows = connections.source_of(connection)
        self._connection = None if self._borrows else connection
        self._configure(reads=reads, namespace=namespace, key_prefix=key_prefix, tail_prefix=tail_prefix,
                        hash_keys=hash_keys, schema=schema)

    def _configure(self, **options: Any) -> None:
        self._options = options
        self.reads = options["reads"] or ("sql" if self._redis is None else "strong")
        if self.reads not in ("sql", "plain", "strong"):
            raise ValueError(f"reads is 'sql', 'plain' or 'strong', not {self.reads!r}")
        if self.reads != "sql" and self._redis is None:
            raise ValueError(f"reads={self.reads!r} needs a redis")
        self.namespace, self.schema = options["namespace"], options["schema"]
        prefix = options["key_prefix"]
        if prefix is None:
            # The server's setting may name any namespace: without its prefix the copies of another one would be read.
            if self.reads != "sql" and self.namespace is None:
                raise ValueError(f"reads={self.reads!r} needs a namespace")
            prefix = "session:" if self.namespace == "default" else f"{self.namespace}:"
        self._prefixes = {"get": prefix, "get_many": prefix, "tail": options["tail_prefix"]}
        if self._copies is None and self._redis is not None and self.reads != "sql":
            self._copies = Copies(self._redis, self._redis_timeout)

    def with_(self: Store, **options: Any) -> Store:
        """The same store with other options: namespace, key_prefix, tail_prefix, hash_keys, reads, schema.
        What belongs to the namespace (key_prefix, tail_prefix, hash_keys) is not taken over to another one."""
        other = copy.copy(self)
        kept = dict(self._options)
        if "namespace" in options:
            kept.update(key_prefix=None, tail_prefix=None, hash_keys=False)
        unknown = set(options) - set(kept)
        if unknown:
            raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
        other._configure(**{**kept, **options})
        return other

    def using(self: Store, connection: Any) -> Store:
        """The same store on a connection of yours, in your transaction; reads by SQL."""
        other = self.with_(reads="sql")
        other._source, other._borrows = connections.source_of(connection)
        other._connection = None if other._borrows else connection
        return other

    def _keys(self, statement: Statement) -> Optional[List[bytes]]:
        """The keys in Redis that answer a statement; None if SQL has to, as in a transaction, which may have
        written."""
        prefix = self._prefixes.get(statement.name)
        if (prefix is None or self._copies is None or self.reads == "sql"
                or not statement.session_ids or not all(statement.session_ids)
                or connections.in_transaction(self._connection)):
            return None
        keys = [key(prefix, session_id, self._options["hash_keys"]) for session_id in statement.session_ids]
        return keys if self.reads == "plain" else [LEASE, *keys]

    def _adopt(self, session_id: str, data: Json, ttl: Optional[Duration], owner: Optional[str],
               expires_at: Optional[Moment]) -> Statement:
        arguments: Dict[str, Optional[str]] = {"data": documents.encode(data)}
        for name, value in (("ttl", calls.duration("ttl", ttl)), ("owner", calls.text("owner", owner)),
                            ("expires_at", calls.moment("expires_at", expires_at)), ("namespace", self.namespace)):
            if value is not None:
                arguments[name] = value
        renamed = {"new_session_id": calls.text("session_id", session_id), "namespace": self.namespace}
        create = calls.call_text(self.schema, "create", list(arguments))
        outer = calls.call_text(self.schema, "regenerate", list(renamed))
        sql = f"SELECT {outer.replace('(', f'({create}, ', 1)}"
        return Statement("adopt", sql, [*arguments.values(), *renamed.values()], lambda rows: True)


def _taken(error: SessionStoreError) -> bool:
    """Whether a statement of adopt failed because the session is alive."""
    return error.code == "22023" and "id of an existing session" in str(error)


class SessionStore(_Store):
    """The store over psycopg 3 or psycopg2."""

    def run(self, statement: Statement) -> Any:
        """Runs a call that was bound to its arguments."""
        keys = self._keys(statement)
        if keys is not None and self._copies is not None:
            found = self._copies.read(keys)
            if found is not None:
                return found if statement.name == "get_many" else found[0]
        try:
            with self._source() as connection:
                if not self._borrows:
                    return self._execute(connection, statement)
                with connections.committing(connection) as connection:
                    return self._execute(connection, statement)
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            raise known from error

    @staticmethod
    def _execute(connection: Any, statement: Statement) -> Any:
        with connections.cursor(connection) as cursor:
            cursor.execute(statement.sql, statement.values)
            return statement.read(cursor.fetchall())

    def adopt(self, session_id: str, data: Json, *, ttl: Optional[Duration] = None, owner: Optional[str] = None,
              expires_at: Optional[Moment] = None) -> bool:
        """Creates a session under an id that comes from another store. False, and nothing changes, if it is alive
        here already; DeadSessionError if it was logged out here."""
        try:
            return bool(self.run(self._adopt(session_id, data, ttl, owner, expires_at)))
        except InvalidArgumentError as error:
            if _taken(error):
                return False
            raise

    def messages(self, session_id: str, *, page_size: int = 1000, after: Optional[int] = None,
                 before: Optional[int] = None) -> Iterator[Message]:
        """The messages of a session, oldest first, page by page."""
        return _pages(self.history, "first", page_size, session_id=session_id, after=after, before=before)

    def sessions(self, *, page_size: int = 1000, **options: Any) -> Iterator[Summary]:
        """All sessions that `list` returns with these options, page by page."""
        return _pages(self.list, "page_size", page_size, **options)

    def export_all(self, owner: str, *, page_size: int = 1000) -> Iterator[Item]:
        """All items of `export`, page by page."""
        return _pages(self.export, "page_size", page_size, owner=owner)


def _pages(call: Any, size_name: str, size: int, **named: Any) -> Iterator[Any]:
    named[size_name] = size
    while True:
        page = call(**named)
        yield from page
        if len(page) < size:
            return
        named["after"] = page[-1].seq if call.__name__ == "history" else page[-1].page_cursor


class AsyncSessionStore(_Store):
    """The store over asynchronous connections of psycopg 3 and redis.asyncio. Its calls are awaited."""

    async def run(self, statement: Statement) -> Any:
        keys = self._keys(statement)
        if keys is not None and self._copies is not None:
            found = await self._copies.read_async(keys)
            if found is not None:
                return found if statement.name == "get_many" else found[0]
        try:
            if not self._borrows:
                return await self._execute(self._connection, statement)
            async with self._source() as connection:
                async with connections.committing_async(connection) as connection:
                    return await self._execute(connection, statement)
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            raise known from error

    @staticmethod
    async def _execute(connection: Any, statement: Statement) -> Any:
        async with connections.cursor(connection) as cursor:
            await cursor.execute(statement.sql, statement.values)
            return statement.read(await cursor.fetchall())

    async def adopt(self, session_id: str, data: Json, *, ttl: Optional[Duration] = None,
                    owner: Optional[str] = None, expires_at: Optional[Moment] = None) -> bool:
        """As SessionStore.adopt."""
        try:
            return bool(await self.run(self._adopt(session_id, data, ttl, owner, expires_at)))
        except InvalidArgumentError as error:
            if _taken(error):
                return False
            raise

    def messages(self, session_id: str, *, page_size: int = 1000, after: Optional[int] = None,
                 before: Optional[int] = None) -> AsyncIterator[Message]:
        """As SessionStore.messages."""
        return _pages_async(self.history, "first", page_size, session_id=session_id, after=after, before=before)

    def sessions(self, *, page_size: int = 1000, **options: Any) -> AsyncIterator[Summary]:
        """As SessionStore.sessions."""
        return _pages_async(self.list, "page_size", page_size, **options)

    def export_all(self, owner: str, *, page_size: int = 1000) -> AsyncIterator[Item]:
        """As SessionStore.export_all."""
        return _pages_async(self.export, "page_size", page_size, owner=owner)


async def _pages_async(call: Any, size_name: str, size: int, **named: Any) -> AsyncIterator[Any]:
    named[size_name] = size
    while True:
        page = await call(**named)
        for each in page:
            yield each
        if len(page) < size:
            return
        named["after"] = page[-1].seq if call.__name__ == "history" else page[-1].page_cursor
