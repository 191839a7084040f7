"""Ids for the keys of other programs, as in clients/js. An id of the store has 1 to 200 bytes and no control characters;
keys of threads and caches may have any. A key that is no id is stored under a hash, so that it works like any other."""

from __future__ import annotations

import hashlib
import re

_LONGEST_ID = 200  # bytes
_LONGEST_START = 120  # bytes: leaves room for a hash
_MARK = "sha256:"
_REFUSED = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # by the server, and what has no UTF-8


def _is_plain(text: str, most: int) -> bool:
    return not _REFUSED.search(text) and len(text.encode()) <= most


def _hashed(key: str) -> str:
    return _MARK + hashlib.sha256(key.encode("utf-16-le", "surrogatepass")).hexdigest()


def id_start(prefix: str) -> str:
    """What the ids of all keys under a prefix begin with: the prefix itself, if it may begin an id."""
    return prefix if _is_plain(prefix, _LONGEST_START) and not prefix.startswith(_MARK) else _hashed(prefix) + ":"


def id_of(key: str, prefix: str = "") -> str:
    """The id of a key under a prefix: both, if that is an id; otherwise the prefix, `sha256:` and the hash of the key.
    No two keys under a prefix have the same id, so a key that begins with `sha256:` is hashed as well."""
    session_id = id_start(prefix) + key
    plain = session_id and _is_plain(session_id, _LONGEST_ID) and not key.startswith(_MARK)
    return session_id if plain else id_start(prefix) + _hashed(key)
