"""JSON documents as text, with the strings that jsonb refuses.

U+0000, a lone surrogate and the escape character U+0010 become U+0010 and four hexadecimal digits, as
session_json_encode() of the server does it. Both ways work on JSON text: a document without such characters, which
is nearly every one, costs one search.
"""
from __future__ import annotations

import json
import re
from typing import Any, Match

from .errors import InvalidArgumentError

# In text of _to_text: the escapes of U+0000 and U+0010, and surrogates, which it leaves as they are.
_SUSPECT = re.compile("\\\\u00[01]0|[\ud800-\udfff]")

# One escape of ASCII-only JSON text. Every backslash is consumed, so that "\\u0000" is no escape of U+0000.
_ESCAPE = re.compile(r"\\(?:u(?:d[89ab]..\\ud[c-f]..|(0000|0010|d[89a-f]..))|.)")
_COMPACT = {"allow_nan": False, "separators": (",", ":")}
_to_text = json.JSONEncoder(ensure_ascii=False, **_COMPACT).encode  # type: ignore[arg-type]
_to_ascii = json.JSONEncoder(**_COMPACT).encode  # type: ignore[arg-type]
_ENCODED = re.compile(r"\\(?:u0010([0-9a-f]{4})|.)")


def encode(value: Any) -> str:
    """JSON text of a value that jsonb accepts. Raises InvalidArgumentError for what JSON does not have."""
    try:
        text = _to_text(value)
        if _SUSPECT.search(text) is None:
            return text
        return _ESCAPE.sub(_escape, _to_ascii(value))
    except (ValueError, RecursionError) as error:  # NaN, infinity, a circle
        raise InvalidArgumentError(f"document cannot be encoded as JSON: {error}", "22023") from error


def decode(text: str) -> Any:
    """The value of JSON text that the server or Redis returned."""
    if "\\u0010" in text:
        text = _ENCODED.sub(_unescape, text)
    return json.loads(text)


def _escape(match: Match[str]) -> str:
    return "\\u0010" + match[1] if match[1] else match[0]


def _unescape(match: Match[str]) -> str:
    return "\\u" + match[1] if match[1] else match[0]
