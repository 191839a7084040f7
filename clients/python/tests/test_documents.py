"""Documents as JSON text: what jsonb refuses is encoded as session_json_encode() does it."""
import json
import math
import random

import pytest

from session_store import InvalidArgumentError
from session_store.documents import decode, encode


def test_plain_text_stays():
    assert encode({"a": "ä😀\\", "b": [1, None, True, 0.5]}) == '{"a":"ä😀\\\\","b":[1,null,true,0.5]}'


@pytest.mark.parametrize("value, text", [
    ("a\0b", '"a\\u00100000b"'),
    ("\ud800", '"\\u0010d800"'),
    ("\udc00\ud800", '"\\u0010dc00\\u0010d800"'),
    ("\x10", '"\\u00100010"'),
    ("\\\0", '"\\\\\\u00100000"'),
    ("\\u0000", '"\\\\u0000"'),
    ({"\0": 1}, '{"\\u00100000":1}'),
])
def test_encoded(value, text):
    assert encode(value) == text
    assert decode(text) == value


def test_a_pair_of_surrogates_is_its_character():
    assert decode(encode("\ud83d" + "\ude00\0")) == "😀\0"


def test_any_string_comes_back():
    rand = random.Random(14)
    units = ["\0", "\x10", "\\", '"', "u", "0", "d800", "\ud800", "\udc00", "😀", "ä", "\n", "a"]
    for _ in range(3000):
        value = "".join(rand.choices(units, k=rand.randrange(8)))
        expected = json.loads(json.dumps(value))  # which joins surrogates to pairs
        assert decode(encode({value: [value]})) == {expected: [expected]}


def circle():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], circle()])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(InvalidArgumentError):
        encode(value)


def test_objects_are_a_type_error():
    with pytest.raises(TypeError):
        encode({"a": object()})
