"""Connections: where a call gets one, and how it runs there.

A connection that the caller gives is used as it is: a call is part of its transaction, and without autocommit the
caller commits, as after any other statement. From a pool, or from a function that returns a context manager, each
call takes a connection. If that is not in a transaction, the call commits by itself, in one round trip.
"""
from __future__ import annotations

import sys
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, AsyncIterator, Callable, Iterator, Tuple

_IDLE = 0  # the transaction status of libpq, in both drivers


def source_of(connection: Any) -> Tuple[Callable[[], Any], bool]:
    """A function that returns a context manager of a connection, and whether its connections are borrowed."""
    if hasattr(connection, "cursor"):
        return lambda: nullcontext(connection), False
    if hasattr(connection, "connection"):  # psycopg_pool
        return connection.connection, True
    if hasattr(connection, "getconn"):  # psycopg2.pool
        return lambda: _taken(connection), True
    if callable(connection):
        return connection, True
    raise TypeError("connection is a connection of psycopg or psycopg2, a pool of them, or a function that "
                    "returns a context manager of a connection")


def in_transaction(connection: Any) -> bool:
    info = getattr(connection, "info", None)
    return info is not None and info.transaction_status != _IDLE


def cursor(connection: Any) -> Any:
    """A cursor whose rows are tuples, whatever the connection's own rows are."""
    psycopg, psycopg2 = sys.modules.get("psycopg"), sys.modules.get("psycopg2")
    if psycopg and isinstance(connection, psycopg.Connection):
        return psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row)
    if psycopg and isinstance(connection, psycopg.AsyncConnection):
        return psycopg.AsyncCursor(connection, row_factory=psycopg.rows.tuple_row)
    if psycopg2 and isinstance(connection, psycopg2.extensions.connection):
        return connection.cursor(cursor_factory=psycopg2.extensions.cursor)
    return connection.cursor()


@contextmanager
def committing(connection: Any) -> Iterator[Any]:
    """A borrowed connection, with autocommit unless it is in a transaction."""
    connection = getattr(connection, "driver_connection", connection)  # of SQLAlchemy's pool
    if connection.autocommit or in_transaction(connection):
        yield connection
        return
    connection.autocommit = True
    try:
        yield connection
    finally:
        if not connection.closed:
            connection.autocommit = False


@asynccontextmanager
async def committing_async(connection: Any) -> AsyncIterator[Any]:
    """The same for an asynchronous connection."""
    connection = getattr(connection, "driver_connection", connection)
    if connection.autocommit or in_transaction(connection):
        yield connection
        return
    await connection.set_autocommit(True)
    try:
        yield connection
    finally:
        if not connection.closed and not in_transaction(connection):
            await connection.set_autocommit(False)


@contextmanager
def _taken(pool: Any) -> Iterator[Any]:
    connection = pool.getconn()
    try:
        yield connection
    finally:
        pool.putconn(connection, close=bool(connection.closed))
