"""The calls: one table for SessionStore and AsyncSessionStore.

Each method below only declares a call: its parameters, what it returns, and in the decorator how its rows become
that. `x.save(..)` of a SessionStore returns the result, of an AsyncSessionStore an awaitable of it; type checkers and
editors see both. Parameters are named as in SQL. One that is required is always sent, any other if it is not None.
Scalars are sent as text without a type, so that the server takes them as the parameter's type.
"""
from __future__ import annotations

import functools
import math
import operator
from datetime import datetime, timedelta
from decimal import Decimal
from types import MethodType
from typing import (TYPE_CHECKING, Any, Callable, Dict, Generic, List, NamedTuple, Optional, Sequence, Tuple, Type,
                    TypeVar, Union)

from . import documents
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing import Awaitable, Concatenate, ParamSpec, overload

    from . import AsyncSessionStore, SessionStore
    P = ParamSpec("P")
else:
    P = TypeVar("P")

R = TypeVar("R")

Json = Any  # what json.dumps takes: None, bool, int, float, str, list, dict
# A number is seconds, a str an interval of PostgreSQL. A ttl of math.inf keeps a session until it is deleted.
Duration = Union[timedelta, int, float, str]
Moment = Union[datetime, str]  # with a time zone; a str is a timestamptz of PostgreSQL, 'infinity' say
Number = Union[int, float, Decimal]


class Record(NamedTuple):
    namespace: str
    session_id: str
    session_data: Json
    owner_id: Optional[str]
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    message_count: int


class Summary(NamedTuple):
    namespace: str
    session_id: str
    owner_id: Optional[str]
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    message_count: int
    page_cursor: str
    session_data: Json  # None unless with_data


class Message(NamedTuple):
    seq: int
    message: Json
    created_at: datetime


class WindowMessage(NamedTuple):
    seq: Optional[int]  # None: the summary
    message: Json
    created_at: Optional[datetime]
    tokens: int


class Member(NamedTuple):
    member: str
    role: str
    created_at: datetime


class Turn(NamedTuple):
    holder: Optional[str]
    until: datetime


class Hits(NamedTuple):
    hits: int
    remaining: Optional[int]
    resets_at: Optional[datetime]


class Item(NamedTuple):
    page_cursor: str
    kind: str
    item: Json


class Verified(NamedTuple):
    checked: int
    stale: int
    missing: int
    orphaned: int


# How the rows of a statement become the result of a call: what is selected from the function, and a function of rows.
Result = Tuple[str, Callable[[List[Any]], Any]]
_JSON = ("session_data", "message", "item")


def _document(value: Optional[str]) -> Json:
    return None if value is None else documents.decode(value)


def _number(value: Optional[Decimal]) -> Optional[Number]:
    if value is None or not value.is_finite():
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def _seconds(value: Any) -> Optional[timedelta]:
    return None if value is None else timedelta(seconds=float(value))


VALUE: Result = ("SELECT {}", lambda rows: rows[0][0])
DOCUMENT: Result = ("SELECT {}::text", lambda rows: _document(rows[0][0]))
NUMBER: Result = ("SELECT {}", lambda rows: _number(rows[0][0]))
DOCUMENTS: Result = ("SELECT session_data::text FROM {}", lambda rows: [_document(row[0]) for row in rows])
INTERVAL: Result = ("SELECT extract(epoch FROM {})", lambda rows: _seconds(rows[0][0]))


def _rows(kind: Type[Any]) -> Result:
    columns = ", ".join(name + "::text" if name in _JSON else name for name in kind._fields)
    decoded = [i for i, name in enumerate(kind._fields) if name in _JSON]

    def read(rows: List[Any]) -> List[Any]:
        if not decoded:
            return [kind(*row) for row in rows]
        (at,) = decoded
        return [kind(*row[:at], _document(row[at]), *row[at + 1:]) for row in rows]

    return f"SELECT {columns} FROM {{}}", read


def _row(kind: Type[Any]) -> Result:
    select, read = _rows(kind)
    return select, lambda rows: read(rows)[0] if rows else None


class Statement(NamedTuple):
    """A call with its arguments, ready to be run."""

    name: str
    sql: str
    values: Sequence[Optional[str]]
    read: Callable[[List[Any]], Any]
    session_ids: Sequence[str] = ()  # of calls that may read from Redis


class Call(Generic[P, R]):
    """A method of both classes. It hands the statement of a call to the store's `run`."""

    def __init__(self, function: Callable[..., Any], result: Result) -> None:
        self.function, self.result = function, result
        code, defaults = function.__code__, function.__kwdefaults__ or {}
        self.positional = code.co_varnames[1:code.co_argcount]
        # None as data is the document null, also for create, where data has a default
        self.required = {"data", *self.positional[:len(self.positional) - len(function.__defaults__ or ())]}
        self.encoders = {name: _ENCODERS[_plain(function.__annotations__[name])]
                         for name in (*self.positional, *defaults)}
        self.sql: Dict[Any, str] = {}
        functools.update_wrapper(self, function)

    if TYPE_CHECKING:
        @overload
        def __get__(self, store: SessionStore, owner: Any = None) -> Callable[P, R]: ...
        @overload
        def __get__(self, store: AsyncSessionStore, owner: Any = None) -> Callable[P, Awaitable[R]]: ...
        def __get__(self, store: Any, owner: Any = None) -> Any: ...
    else:
        def __get__(self, store, owner=None):
            return self if store is None else MethodType(self, store)

    def __call__(self, store: Any, *args: Any, **named: Any) -> Any:
        return store.run(self.statement(store, args, named))

    def statement(self, store: Any, args: Tuple[Any, ...], named: Dict[str, Any]) -> Statement:
        self.function(store, *args, **named)  # a TypeError, if these are not its parameters
        named.update(zip(self.positional, args))
        if isinstance(named.get("ttl"), float) and named["ttl"] == math.inf and "expires_at" in self.encoders:
            named.update(ttl=None, expires_at=named.get("expires_at") or "infinity")
        names: List[str] = []
        values: List[Optional[str]] = []
        for name, value in named.items():
            if name in self.required or value is not None:
                names.append(name)
                values.append(self.encoders[name](name, value))
        if store.namespace is not None and self.function.__name__ not in _WITHOUT_NAMESPACE:
            names.append("namespace")
            values.append(store.namespace)
        key = (store.schema, *names)
        sql = self.sql.get(key)
        if sql is None:
            sql = self.sql[key] = self.result[0].format(call_text(store.schema, self.function.__name__, names))
        name = self.function.__name__
        ids = (named["session_id"],) if name in ("get", "tail") else named.get("session_ids", ())
        return Statement(name, sql, values, self.result[1], ids)


def _plain(annotation: str) -> str:
    return annotation[len("Optional["):-1] if annotation.startswith("Optional[") else annotation


_WITHOUT_NAMESPACE = {"health", "metrics", "cache_sync", "cache_verify", "cache_takeover"}


def call_text(schema: Optional[str], name: str, names: Sequence[str]) -> str:
    prefix = "" if schema is None else '"' + schema.replace('"', '""').replace("%", "%%") + '".'
    arguments = [f"{each} => %s" for each in names]
    if name == "clear" and "namespace" not in names:  # which it must be given
        arguments.append("namespace => current_setting('session_store.namespace')")
    return f"{prefix}session_{name}({', '.join(arguments)})"


def call(result: Result) -> Callable[[Callable[Concatenate[Any, P], R]], Call[P, R]]:
    return lambda function: Call(function, result)


# How arguments become text, by their annotation. The first parameter is the argument's name.

def text(name: str, value: Any) -> Optional[str]:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    try:
        if "\0" not in value and value.encode():
            return value
    except UnicodeEncodeError:
        pass
    if not value:
        return value
    raise InvalidArgumentError(f"{name} has U+0000 or a lone surrogate", "22023")


def _integer(name: str, value: Any) -> Optional[str]:
    return None if value is None else str(operator.index(value))


def _any_number(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{name} must be a finite number", "22023")
    return str(value)


def _boolean(name: str, value: Any) -> str:
    return "true" if value else "false"


def _json(name: str, value: Any) -> str:
    return documents.encode(value)


def duration(name: str, value: Any) -> Optional[str]:
    if value is None or isinstance(value, str):
        return text(name, value)
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)} microseconds"
    return f"{Decimal(_any_number(name, value)):f} seconds"


def moment(name: str, value: Any) -> Optional[str]:
    if not isinstance(value, datetime):
        return text(name, value)
    if value.tzinfo is None:
        raise InvalidArgumentError(f"{name} needs a time zone", "22023")
    return value.isoformat()


def _array(name: str, value: Any) -> Optional[str]:
    if value is None:
        return None
    if isinstance(value, str):
        raise TypeError(f"{name} must be a sequence of str, not a str")
    quoted = ("NULL" if each is None else '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"'
              for each in (text(name, each) for each in value))
    return "{" + ",".join(quoted) + "}"


_ENCODERS: Dict[str, Callable[[str, Any], Optional[str]]] = {
    "str": text, "int": _integer, "Number": _any_number, "bool": _boolean, "Json": _json, "Duration": duration,
    "Moment": moment, "Sequence[str]": _array,
}


class Calls:
    """Every call of the server, but those that return pages: see the reference for what they do."""

    # Sessions

    @call(VALUE)
    def create(self, data: Json = {}, *, ttl: Optional[Duration] = None, owner: Optional[str] = None,
               expires_at: Optional[Moment] = None) -> str:
        """Creates a session under a random id and returns the id."""

    @call(VALUE)
    def save(self, session_id: str, data: Json, *, ttl: Optional[Duration] = None, owner: Optional[str] = None,
             if_version: Optional[int] = None, expires_at: Optional[Moment] = None,
             turn: Optional[int] = None) -> Optional[int]:
        """Stores the document and returns its version; None if expires_at is in the past."""

    @call(DOCUMENT)
    def get(self, session_id: str) -> Json:
        """The document of a living session, else None. Read from Redis if the store reads there."""

    @call(DOCUMENTS)
    def get_many(self, session_ids: Sequence[str]) -> List[Json]:
        """The documents of several sessions in the order of the ids, None where there is no session. Read from Redis
        if the store reads there and all have copies."""

    @call(_row(Record))
    def fetch(self, session_id: str) -> Optional[Record]:
        """A living session with all columns, else None."""

    @call(VALUE)
    def touch(self, session_id: str, *, ttl: Optional[Duration] = None,
              expires_at: Optional[Moment] = None) -> Optional[datetime]:
        """Restarts the lifetime, or gives another. Returns the expiry, None if there is no session."""

    @call(DOCUMENT)
    def merge(self, session_id: str, patch: Json, *, if_version: Optional[int] = None, owner: Optional[str] = None,
              shallow: Optional[bool] = None, turn: Optional[int] = None) -> Json:
        """Applies a JSON merge patch (RFC 7396) and returns the new document."""

    @call(NUMBER)
    def incr(self, session_id: str, path: Sequence[str], *, by: Optional[Number] = None,
             max: Optional[Number] = None, owner: Optional[str] = None, turn: Optional[int] = None
             ) -> Union[int, float, None]:
        """Adds to the number at the path and returns the sum; None, and nothing changes, if it would exceed max."""

    @call(VALUE)
    def delete(self, session_id: str) -> bool:
        """Ends the session, which stays dead; True if there was one."""

    @call(DOCUMENT)
    def take(self, session_id: str) -> Json:
        """Ends the session and returns its document, None if there is none."""

    @call(VALUE)
    def regenerate(self, session_id: str, *, new_session_id: Optional[str] = None) -> Optional[str]:
        """Gives the session a new id and returns it, None if there is no session."""

    @call(VALUE)
    def exists(self, session_id: str) -> bool:
        """Whether there is a living session."""

    @call(INTERVAL)
    def ttl(self, session_id: str) -> Optional[timedelta]:
        """How long the session will live, None if there is none."""

    # Conversations

    @call(VALUE)
    def append(self, session_id: str, messages: Json, *, operation_id: Optional[str] = None,
               owner: Optional[str] = None, patch: Optional[Json] = None, keep: Optional[int] = None,
               turn: Optional[int] = None) -> int:
        """Appends one message (a dict) or several (a list) and returns the seq of the last."""

    @call(_rows(Message))
    def history(self, session_id: str, *, last: Optional[int] = None, before: Optional[int] = None,
                after: Optional[int] = None, first: Optional[int] = None) -> List[Message]:
        """Messages, oldest first."""

    @call(_rows(WindowMessage))
    def window(self, session_id: str, *, max_tokens: Optional[int] = None, max_messages: Optional[int] = None,
               align: Optional[str] = None) -> List[WindowMessage]:
        """The newest messages that fit, for a model."""

    @call(VALUE)
    def compact(self, session_id: str, up_to: int, summary: Json, *, turn: Optional[int] = None) -> Optional[int]:
        """Lets a summary stand in for the messages up to a seq; returns the number of these."""

    @call(DOCUMENT)
    def tail(self, session_id: str) -> Optional[List[Json]]:
        """The summary and the last messages, None if there is no session. Read from Redis as get is."""

    @call(DOCUMENT)
    def pop(self, session_id: str, n: Optional[int] = None, *, from_start: Optional[bool] = None,
            turn: Optional[int] = None) -> List[Json]:
        """Removes the last n messages (1), or the first, and returns them, oldest first."""

    @call(VALUE)
    def replace_tail(self, session_id: str, n: int, messages: Json, *, expected: Optional[Json] = None,
                     operation_id: Optional[str] = None, turn: Optional[int] = None) -> Optional[int]:
        """Replaces the last n messages by others and returns the last seq, None if there is no session."""

    @call(VALUE)
    def amend(self, session_id: str, seq: int, message: Json, *, turn: Optional[int] = None) -> bool:
        """Replaces one message; True if there was one."""

    @call(VALUE)
    def trim(self, session_id: str, keep: int, *, turn: Optional[int] = None) -> Optional[int]:
        """Removes all but the last messages; returns how many were removed, None if there is no session."""

    @call(VALUE)
    def fork(self, session_id: str, *, new_session_id: Optional[str] = None, up_to: Optional[int] = None
             ) -> Optional[str]:
        """Copies a session and returns the id of the copy, None if there is no session."""

    @call(VALUE)
    def absorb(self, target: str, source: str) -> Optional[int]:
        """Merges the source into the target and ends it; returns how many messages moved."""

    @call(VALUE)
    def share(self, session_id: str, member: str, role: Optional[str] = None) -> bool:
        """Shares a session with an end user as viewer, editor or owner."""

    @call(VALUE)
    def unshare(self, session_id: str, member: str) -> bool:
        """Ends that; True if it was shared."""

    @call(VALUE)
    def accept(self, session_id: str) -> bool:
        """Accepts a session that was shared with the caller."""

    @call(_rows(Member))
    def members(self, session_id: str) -> List[Member]:
        """With whom the session is shared."""

    # Turns

    @call(VALUE)
    def turn_begin(self, session_id: str, *, ttl: Optional[Duration] = None, wait: Optional[Duration] = None,
                   holder: Optional[str] = None) -> Optional[int]:
        """Begins the turn and returns its token; None if another holds it or there is no session."""

    @call(VALUE)
    def turn_renew(self, session_id: str, turn: int, *, ttl: Optional[Duration] = None) -> bool:
        """Lets the turn last until ttl from now; False if it is not held any more."""

    @call(VALUE)
    def turn_end(self, session_id: str, turn: int) -> bool:
        """Ends the turn; False if it is not held any more."""

    @call(_row(Turn))
    def turn(self, session_id: str) -> Optional[Turn]:
        """Who holds the turn and until when, None if nobody does."""

    # Counters

    @call(_row(Hits))
    def hit(self, counter_id: str, period: Optional[Duration], *, by: Optional[int] = None,
            max: Optional[int] = None) -> Hits:
        """Counts a hit in a period that begins with the first one."""

    @call(VALUE)
    def hit_reset(self, counter_id: str) -> bool:
        """Removes a counter; True if its period was running."""

    # Many sessions

    @call(VALUE)
    def delete_all(self, owner: str, *, except_session_id: Optional[str] = None) -> int:
        """Ends all sessions of an owner, except perhaps one; returns how many ended."""

    @call(VALUE)
    def clear(self, *, id_like: Optional[str] = None, id_prefix: Optional[str] = None) -> int:
        """Ends every session of the namespace, or those of these ids; returns how many ended."""

    @call(VALUE)
    def count(self, *, owner: Optional[str] = None, id_like: Optional[str] = None,
              id_prefix: Optional[str] = None) -> int:
        """How many sessions are alive."""

    @call(_rows(Summary))
    def list(self, *, owner: Optional[str] = None, id_like: Optional[str] = None, filter: Optional[Json] = None,
             after: Optional[str] = None, page_size: Optional[int] = None, id_prefix: Optional[str] = None,
             with_data: Optional[bool] = None) -> List[Summary]:
        """A page of living sessions, newest first, or with id_prefix in the order of the ids."""

    @call(_rows(Item))
    def export(self, owner: str, *, after: Optional[str] = None, page_size: Optional[int] = None) -> List[Item]:
        """A page of what the namespace holds of an owner."""

    @call(DOCUMENT)
    def forget(self, owner: str, *, keep_events: Optional[bool] = None) -> Dict[str, Any]:
        """Removes what the namespace holds of an owner and returns a receipt."""

    # Upkeep

    @call(VALUE)
    def purge(self, max_rows: Optional[int] = None) -> int:
        """Removes rows of ended sessions, as the keeper does by itself; returns how many."""

    @call(DOCUMENT)
    def health(self) -> Dict[str, Any]:
        """The state of the extension, with warnings and their remedies."""

    @call(VALUE)
    def metrics(self) -> str:
        """Counters and gauges in the Prometheus text format."""

    @call(VALUE)
    def cache_sync(self, timeout: Optional[Duration] = None) -> bool:
        """Waits until Redis has everything committed before; False after the timeout or without a cache."""

    @call(_row(Verified))
    def cache_verify(self, sample: Optional[int] = None) -> Verified:
        """Compares a sample of the copies in Redis with the table."""

    @call(VALUE)
    def cache_flush(self) -> int:
        """Deletes the copies of the namespace, or of all without one, and returns how many there were."""

    @call(VALUE)
    def cache_takeover(self) -> bool:
        """Makes this database the owner of its Redis."""
