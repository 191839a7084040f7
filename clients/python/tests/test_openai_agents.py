"""The session of openai-agents: the protocol's contract, as the tests of its own sessions have it, and our
rules."""

from __future__ import annotations

import asyncio
import unittest

import agents_cases

from session_store import DeadSessionError, InvalidArgumentError, TooLargeError
from session_store.openai_agents import SessionStoreSession


def said(text: str) -> dict:
    return {"role": "user", "content": text}


def texts(items: list) -> list:
    return [item["content"] for item in items]


class Settings:
    """As SessionSettings of the framework."""

    def __init__(self, limit):
        self.limit = limit


class OpenAIAgents(agents_cases.Faults, agents_cases.AgentCase):
    def adapter(self, store):
        return store

    async def write(self, store, key, text):
        await SessionStoreSession(key, store).add_items([said(text)])

    async def read(self, store, key):
        return texts(await SessionStoreSession(key, store).get_items())

    def id_of(self, key):
        return key

    async def test_items_come_back_in_order_and_unchanged(self):
        session = SessionStoreSession("c", self.store)
        items = [
            said("hello"),
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": "\\u0000"}'},
            {
                "type": "function_call_output",
                "call_id": "1",
                "output": "zero \0, half \ud800, \N{GRINNING FACE}",
            },
            {
                "type": "reasoning",
                "id": "r",
                "summary": [],
                "encrypted_content": None,
                "n": 1.5,
                "deep": [{"a": []}],
            },
        ]
        await session.add_items(items[:1])
        await session.add_items(items[1:])
        self.assertEqual(await session.get_items(), items)

    async def test_a_conversation_that_does_not_exist_is_empty(self):
        session = SessionStoreSession("c", self.store)
        self.assertEqual(await session.get_items(), [])
        self.assertEqual(await session.get_items(limit=3), [])
        self.assertIsNone(await session.pop_item())
        await session.clear_session()
        self.assertFalse(await self.store.exists("c"))

    async def test_adding_no_items_does_nothing(self):
        session = SessionStoreSession("c", self.store)
        await session.add_items([])
        self.assertFalse(await self.store.exists("c"))

    async def test_a_limit_returns_the_newest_items_exactly(self):
        # Not a window: the runner compares what it reads with what it wrote, and drops parted results itself.
        session = SessionStoreSession("c", self.store)
        items = [
            said("a"),
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "b"},
            said("c"),
        ]
        await session.add_items(items)
        self.assertEqual(await session.get_items(limit=2), items[-2:])
        self.assertEqual(await session.get_items(1), items[-1:])
        for limit in (4, 5, 2**31 - 1, 2**40, None):
            self.assertEqual(await session.get_items(limit=limit), items)
        for limit in (0, -1):
            self.assertEqual(await session.get_items(limit=limit), [])

    async def test_the_settings_have_a_limit_and_the_argument_overrides_it(self):
        await SessionStoreSession("c", self.store).add_items([said(text) for text in "abcd"])
        for settings in ({"limit": 2}, Settings(2)):
            session = SessionStoreSession("c", self.store, session_settings=settings)
            self.assertEqual(texts(await session.get_items()), ["c", "d"])
            self.assertEqual(texts(await session.get_items(limit=3)), ["b", "c", "d"])
        unlimited = SessionStoreSession("c", self.store, session_settings=Settings(None))
        self.assertEqual(len(await unlimited.get_items()), 4)

    async def test_pop_removes_the_newest_item(self):
        session = SessionStoreSession("c", self.store)
        await session.add_items([said(text) for text in "abc"])
        self.assertEqual(await session.pop_item(), said("c"))
        self.assertEqual(await session.pop_item(), said("b"))
        await session.add_items([said("d")])
        self.assertEqual(texts(await session.get_items()), ["a", "d"])
        await session.pop_item()
        await session.pop_item()
        self.assertIsNone(await session.pop_item())

    async def test_concurrent_pops_return_distinct_items(self):
        session = SessionStoreSession("c", self.store)
        await session.add_items([said(str(n)) for n in range(20)])
        popped = await asyncio.gather(*(SessionStoreSession("c", self.store).pop_item() for _ in range(20)))
        self.assertEqual(sorted(texts(popped), key=int), [str(n) for n in range(20)])
        self.assertEqual(await session.get_items(), [])

    async def test_a_batch_is_stored_as_a_whole(self):
        await self.sql("UPDATE session_namespaces SET max_bytes = 1000 WHERE name = %s", self.namespace)
        session = SessionStoreSession("c", self.store)
        await session.add_items([said("a")])
        with self.assertRaises(TooLargeError):
            await session.add_items([said("b"), said("x" * 5000)])
        with self.assertRaises(InvalidArgumentError):
            await session.add_items([said("b"), {"content": float("nan")}])
        self.assertEqual(texts(await session.get_items()), ["a"])

    async def test_clear_removes_the_items_and_the_conversation_goes_on(self):
        session = SessionStoreSession("c", self.store, owner="ada")
        await session.add_items([said("a"), said("b")])
        await self.store.merge("c", {"title": "talk"})
        await session.clear_session()
        self.assertEqual(await session.get_items(), [])
        await session.add_items([said("c")])
        self.assertEqual(texts(await session.get_items()), ["c"])
        self.assertEqual((await self.store.fetch("c"))[2:4], ({"title": "talk"}, "ada"))

    async def test_conversations_are_apart(self):
        one, two = SessionStoreSession("1", self.store), SessionStoreSession("2", self.store)
        await one.add_items([said("a")])
        await two.add_items([said("b")])
        await one.clear_session()
        self.assertEqual(texts(await two.get_items()), ["b"])

    async def test_the_owner_is_that_of_a_conversation_that_is_created(self):
        await SessionStoreSession("c", self.store, owner="ada").add_items([said("a")])
        await SessionStoreSession("c", self.store, owner="bob").add_items([said("b")])
        self.assertEqual((await self.store.fetch("c")).owner_id, "ada")
        self.assertEqual(await self.store.delete_all("ada"), 1)
        self.assertEqual(await SessionStoreSession("c", self.store).get_items(), [])

    async def test_a_conversation_that_was_logged_out_stays_out(self):
        session = SessionStoreSession("c", self.store)
        await session.add_items([said("a")])
        self.assertEqual(len(await session.get_items()), 1)
        await self.store.delete("c")
        with self.assertRaises(DeadSessionError):
            await session.add_items([said("b")])
        self.assertEqual(await session.get_items(), [])
        self.assertIsNone(await session.pop_item())
        await session.clear_session()
        self.assertFalse(await self.store.exists("c"))

    async def test_ids_that_the_store_refuses_are_errors(self):
        for session_id in ("", "x" * 201, "a\nb", "a\0b", "half \ud800"):
            with self.subTest(session_id=session_id), self.assertRaises(InvalidArgumentError):
                await SessionStoreSession(session_id, self.store).add_items([said("a")])
        for session_id in ("__proto__", "a/b:c%d", "\N{GRINNING FACE}" * 50, "'; DROP TABLE x; --", "$1 %s"):
            with self.subTest(session_id=session_id):
                session = SessionStoreSession(session_id, self.store)
                await session.add_items([said(session_id)])
                self.assertEqual(texts(await session.get_items()), [session_id])


if __name__ == "__main__":
    unittest.main()
