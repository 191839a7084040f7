"""Documents as JSON text: what jsonb refuses is encoded as session_json_encode() does it."""
import json
import math
import random
import unittest

from session_store import InvalidArgumentError
from session_store.documents import decode, encode


class Documents(unittest.TestCase):
    def test_plain_text_stays(self):
        self.assertEqual(encode({"a": "ä😀\\", "b": [1, None, True, 0.5]}), '{"a":"ä😀\\\\","b":[1,null,true,0.5]}')

    def test_encoded(self):
        for value, text in (
                ("a\0b", '"a\\u00100000b"'),
                ("\ud800", '"\\u0010d800"'),
                ("\udc00\ud800", '"\\u0010dc00\\u0010d800"'),
                ("\x10", '"\\u00100010"'),
                ("\\\0", '"\\\\\\u00100000"'),
                ("\\u0000", '"\\\\u0000"'),
                ({"\0": 1}, '{"\\u00100000":1}')):
            with self.subTest(text):
                self.assertEqual(encode(value), text)
                self.assertEqual(decode(text), value)

    def test_a_pair_of_surrogates_is_its_character(self):
        self.assertEqual(decode(encode("\ud83d" + "\ude00\0")), "😀\0")

    def test_any_string_comes_back(self):
        seed = random.randrange(2 ** 32)
        rand = random.Random(seed)
        units = ["\0", "\x10", "\\", '"', "u", "0", "d800", "\ud800", "\udc00", "😀", "ä", "\n", "a"]
        for _ in range(3000):
            value = "".join(rand.choices(units, k=rand.randrange(8)))
            expected = json.loads(json.dumps(value))  # which joins surrogates to pairs
            self.assertEqual(decode(encode({value: [value]})), {expected: [expected]}, f"seed {seed}")

    def test_what_json_does_not_have_is_refused(self):
        circle = []
        circle.append(circle)
        for value in (math.nan, math.inf, [-math.inf], circle):
            with self.assertRaises(InvalidArgumentError):
                encode(value)

    def test_objects_are_a_type_error(self):
        with self.assertRaises(TypeError):
            encode({"a": object()})
