"""The store on one of Django's own database connections, so that ATOMIC_REQUESTS, tests and routers hold.

Options, of the setting SESSION_STORE for sessions and of OPTIONS in CACHES for a cache:
    DATABASE    the alias of the database; "default"
    NAMESPACE, KEY_PREFIX, HASH_KEYS, READS, REDIS_TIMEOUT, SCHEMA    as of session_store.SessionStore
    REDIS       a URL, or a client of redis-py; without it all reads are by SQL
"""
from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Iterator, Mapping

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from .. import SessionStore

DEFAULT_DATABASE = "default"
_OPTIONS = ("NAMESPACE", "KEY_PREFIX", "HASH_KEYS", "READS", "REDIS", "REDIS_TIMEOUT", "SCHEMA")


class Connection:
    """The connection that Django has for this thread, as the core uses one."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def cursor(self) -> Any:
        return connections[self.alias].cursor()

    @property
    def info(self) -> Any:
        return SimpleNamespace(transaction_status=int(connections[self.alias].in_atomic_block))


def make_store(options: Mapping[str, Any]) -> SessionStore:
    unknown = set(options) - {*_OPTIONS, "DATABASE", "PREVIOUS"}
    if unknown:
        raise ImproperlyConfigured(f"session_store has no option {', '.join(sorted(unknown))}")
    named = {name.lower(): options[name] for name in _OPTIONS if options.get(name) is not None}
    if isinstance(named.get("redis"), str):
        import redis
        named["redis"] = redis.Redis.from_url(named["redis"])
    return SessionStore(Connection(options.get("DATABASE", DEFAULT_DATABASE)), **named)


@contextmanager
def savepoint(alias: str) -> Iterator[None]:
    """For a call whose error is an answer: it does not break the transaction that it is in, if there is one."""
    if connections[alias].in_atomic_block:
        with transaction.atomic(using=alias):
            yield
    else:
        yield
