"""Ids for the keys of other programs, such as caches, whose keys may be longer than an id or have control characters.

clients/js has the same rules, so that an id is found from both.
"""
from __future__ import annotations

import hashlib
import re

MARK = "sha256:"
LONGEST_ID = 200  # bytes
LONGEST_START = 120  # bytes: leaves room for a hash
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # C0, DEL and C1, and what has no UTF-8


def is_id(text: str) -> bool:
    """Whether the store takes this as an id. If not, there is no session under it."""
    return text != "" and _is_plain(text, LONGEST_ID)


def id_start(prefix: str) -> str:
    """What the ids of all keys under a prefix begin with: the prefix itself, if it may begin an id."""
    return prefix if _is_plain(prefix, LONGEST_START) and not prefix.startswith(MARK) else _hashed(prefix) + ":"


def id_of(key: str, prefix: str = "") -> str:
    """The prefix and the key, if that is an id; otherwise, and if the key looks like one of these, the prefix,
    `sha256:` and the hash of the key. No two keys under a prefix have the same id."""
    start = id_start(prefix)
    return start + key if is_id(start + key) and not key.startswith(MARK) else start + _hashed(key)


def _is_plain(text: str, longest: int) -> bool:
    return _REFUSED.search(text) is None and len(text.encode()) <= longest


def _hashed(key: str) -> str:
    return MARK + hashlib.sha256(key.encode("utf-16-le", "surrogatepass")).hexdigest()
