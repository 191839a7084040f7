"""Ids for the keys of other programs, such as caches, whose keys may be longer than an id or have control characters."""
from __future__ import annotations

import hashlib
import re

MARK = "sha256:"
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # C0, DEL and C1, and what has no UTF-8


def is_id(text: str) -> bool:
    """Whether the store takes this as an id. If not, there is no session under it."""
    return text != "" and _REFUSED.search(text) is None and len(text.encode()) <= 200


def id_of(key: str) -> str:
    """The key, if it is an id; otherwise, and if it looks like one of these, `sha256:` and its hash."""
    if is_id(key) and not key.startswith(MARK):
        return key
    return MARK + hashlib.sha256(key.encode("utf-16-le", "surrogatepass")).hexdigest()
