"""The SessionStore of claude-agent-sdk: the contracts that the SDK states for every store, and our rules."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import unittest
from unittest import mock

import agents_cases

from session_store import (
    DeadSessionError,
    InvalidArgumentError,
    SessionStoreError,
    UnavailableError,
    claude_agent,
)
from session_store.claude_agent import ClaudeSessionStore

KEY = {"project_key": "-home-ada-work", "session_id": "8f14e45f-ceea-467f-a9c3-2d1b7e9a0c11"}
SUB = {**KEY, "subpath": "subagents/agent-1"}
_uuids = (f"uuid-{n}" for n in itertools.count(1))


def entry(text, **more):
    return {"type": "user", "uuid": next(_uuids), "message": {"content": text}, **more}


def texts(entries):
    return [entry["message"]["content"] for entry in entries or []]


def other(**parts):
    return {**KEY, **parts}


def fold(before, key, entries):
    """As fold_session_summary of the SDK: what a session's summary is after more entries."""
    data = dict(before["data"]) if before else {"texts": [], "nothing": None}
    data["texts"] = data["texts"] + texts(entries)
    return {"session_id": key["session_id"], "mtime": 0, "data": data}


class ClaudeAgent(agents_cases.Faults, agents_cases.AgentCase):
    def adapter(self, store):
        return ClaudeSessionStore(store)

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.claude = ClaudeSessionStore(self.store, fold_session_summary=fold)

    async def write(self, adapter, key, text):
        await adapter.append(other(session_id=key), [entry(text)])

    async def read(self, adapter, key):
        return texts(await adapter.load(other(session_id=key)))

    def id_of(self, key):
        return f"-home-ada-work:{key}:"

    # What the SDK demands

    async def test_entries_come_back_equal_and_in_the_order_of_the_calls(self):
        entries = [entry(text) for text in "abcd"]
        await self.claude.append(KEY, entries[2:])
        await self.claude.append(KEY, entries[:1])
        await self.claude.append(KEY, entries[1:2])
        self.assertEqual(await self.claude.load(KEY), [*entries[2:], *entries[:2]])
        odd = entry("zero \0, half \ud800", none=None, number=1.5, deep=[[{"": {}}]], uuid="b")
        await self.claude.append(SUB, [odd])
        self.assertEqual(await self.claude.load(SUB), [odd])

    async def test_what_was_never_written_is_none(self):
        self.assertIsNone(await self.claude.load(KEY))
        await self.claude.append(KEY, [entry("a")])
        self.assertIsNone(await self.claude.load(SUB))
        self.assertIsNone(await self.claude.load(other(session_id="other")))

    async def test_an_empty_batch_does_nothing(self):
        await self.claude.append(KEY, [])
        self.assertEqual(await self.store.count(), 0)
        await self.claude.append(KEY, [entry("a")])
        await self.claude.append(KEY, [])
        self.assertEqual(texts(await self.claude.load(KEY)), ["a"])

    async def test_subagents_are_apart_from_the_main_transcript(self):
        await self.claude.append(KEY, [entry("main")])
        await self.claude.append(SUB, [entry("sub")])
        self.assertEqual(texts(await self.claude.load(KEY)), ["main"])
        self.assertEqual(texts(await self.claude.load(SUB)), ["sub"])

    async def test_projects_are_apart(self):
        for project in ("A", "A:", "A/B", "B", "a", "A%3A"):
            await self.claude.append(other(project_key=project), [entry(project)])
        for project in ("A", "A:", "A/B", "B", "a", "A%3A"):
            self.assertEqual(texts(await self.claude.load(other(project_key=project))), [project])
            self.assertEqual(len(await self.claude.list_sessions(project)), 1)

    async def test_sessions_are_listed_with_the_time_of_their_last_change(self):
        await self.claude.append(KEY, [entry("a")])
        await self.claude.append(SUB, [entry("sub")])
        await self.claude.append(other(session_id="b: %\N{SNOWMAN}"), [entry("b")])
        await self.claude.append(other(project_key="other"), [entry("c")])
        listed = {
            row["session_id"]: row["mtime"] for row in await self.claude.list_sessions(KEY["project_key"])
        }
        self.assertEqual(set(listed), {KEY["session_id"], "b: %\N{SNOWMAN}"})
        updated = (await self.store.fetch(claude_agent._id(KEY))).updated_at.timestamp()
        self.assertEqual(listed[KEY["session_id"]], int(updated * 1000))
        self.assertEqual(await self.claude.list_sessions("no project"), [])
        await asyncio.sleep(0.01)
        await self.claude.append(KEY, [entry("d")])
        again = {
            row["session_id"]: row["mtime"] for row in await self.claude.list_sessions(KEY["project_key"])
        }
        self.assertGreater(again[KEY["session_id"]], listed[KEY["session_id"]])

    async def test_subkeys_are_listed_without_the_main_transcript(self):
        await self.claude.append(KEY, [entry("a")])
        self.assertEqual(await self.claude.list_subkeys(KEY), [])
        for subpath in ("subagents/agent-1", "subagents/a:b%2Fc/\N{SNOWMAN}"):
            await self.claude.append(other(subpath=subpath), [entry("s")])
        await self.claude.append({**SUB, "session_id": "other"}, [entry("x")])
        self.assertEqual(
            sorted(await self.claude.list_subkeys(KEY)),
            ["subagents/a:b%2Fc/\N{SNOWMAN}", "subagents/agent-1"],
        )
        self.assertEqual(await self.claude.list_subkeys(other(session_id="no session")), [])

    async def test_deleting_a_session_deletes_its_subagents_and_nothing_else(self):
        two = other(subpath="subagents/agent-2")
        longer = other(session_id=KEY["session_id"] + "2")
        kept = [longer, other(project_key="other"), {**SUB, "project_key": "other"}]
        for key in (KEY, SUB, two, *kept):
            await self.claude.append(key, [entry("a")])
        await self.claude.delete(KEY)
        for key in (KEY, SUB, two):
            self.assertIsNone(await self.claude.load(key))
        for key in kept:
            self.assertEqual(texts(await self.claude.load(key)), ["a"])
        self.assertEqual(await self.claude.list_subkeys(KEY), [])
        listed = await self.claude.list_sessions(KEY["project_key"])
        self.assertEqual([row["session_id"] for row in listed], [longer["session_id"]])

    async def test_deleting_a_subagent_deletes_nothing_else(self):
        two = other(subpath="subagents/agent-2")
        for key in (KEY, SUB, two):
            await self.claude.append(key, [entry("a")])
        await self.claude.delete(SUB)
        self.assertIsNone(await self.claude.load(SUB))
        self.assertEqual(await self.claude.list_subkeys(KEY), ["subagents/agent-2"])
        self.assertEqual(texts(await self.claude.load(KEY)), ["a"])

    async def test_deleting_what_was_never_written_is_no_error(self):
        await self.claude.delete(KEY)
        await self.claude.delete(SUB)

    # A uuid is stored once

    async def test_a_batch_that_is_sent_again_is_stored_once(self):
        for key in (KEY, SUB):
            batch = [entry("a"), {"type": "title", "message": {"content": "no uuid"}}]
            await self.claude.append(key, batch)
            await self.claude.append(key, [entry("b")])
            await self.claude.append(key, batch)
            self.assertEqual(texts(await self.claude.load(key)), ["a", "no uuid", "b"])
            self.assertEqual(len(await self.store.history(claude_agent._id(key))), 3, "it is not only hidden")

    async def test_a_uuid_that_comes_again_in_another_batch_is_loaded_once(self):
        a, b = entry("a"), entry("b")
        await self.claude.append(KEY, [a])
        await self.claude.append(KEY, [a, b])
        await self.claude.append(KEY, [{**b, "message": {"content": "later"}}])
        self.assertEqual(texts(await self.claude.load(KEY)), ["a", "b"])

    async def test_entries_without_a_uuid_may_repeat(self):
        title = {"type": "title", "message": {"content": "A"}}
        for text in "ABA":
            await self.claude.append(KEY, [{**title, "message": {"content": text}}])
        self.assertEqual(texts(await self.claude.load(KEY)), ["A", "B", "A"])

    # Summaries

    async def summaries(self, project=KEY["project_key"]):
        return {row["session_id"]: row for row in await self.claude.list_session_summaries(project)}

    async def test_summaries_are_kept_as_the_sdk_makes_them(self):
        await self.claude.append(KEY, [entry("a"), entry("b")])
        await self.claude.append(KEY, [entry("c")])
        await self.claude.append(other(project_key="other"), [entry("x")])
        summary = (await self.summaries())[KEY["session_id"]]
        self.assertEqual(summary["data"], {"texts": ["a", "b", "c"], "nothing": None})
        listed = await self.claude.list_sessions(KEY["project_key"])
        self.assertEqual([summary["mtime"]], [row["mtime"] for row in listed], "one clock for both")
        await self.claude.append(SUB, [entry("sub")])
        self.assertEqual(await self.summaries(), {KEY["session_id"]: summary})
        self.assertEqual(await self.store.get(claude_agent._id(SUB)), {}, "a subagent has none")
        self.assertEqual(await self.summaries("no project"), {})
        await self.claude.delete(KEY)
        self.assertEqual(await self.summaries(), {})

    async def test_a_batch_that_is_sent_again_is_summarized_once(self):
        batch = [entry("a")]
        await self.claude.append(KEY, batch)
        await self.claude.append(KEY, batch)
        self.assertEqual((await self.summaries())[KEY["session_id"]]["data"]["texts"], ["a"])

    async def test_a_summary_that_misses_entries_is_not_listed(self):
        # Two processes read the same summary, and each writes it back with its own entries.
        with mock.patch.object(self.claude._store, "get", mock.AsyncMock(return_value=None)):
            await self.claude.append(KEY, [entry("a")])
            await self.claude.append(KEY, [entry("b")])
        self.assertEqual(await self.summaries(), {})
        self.assertEqual(len(await self.claude.list_sessions(KEY["project_key"])), 1, "the SDK loads it")
        await self.claude.append(KEY, [entry("c")])
        self.assertEqual(await self.summaries(), {})

    async def test_concurrent_appends_never_list_a_wrong_summary(self):
        await asyncio.gather(*(self.claude.append(KEY, [entry(str(n))]) for n in range(20)))
        stored = texts(await self.claude.load(KEY))
        self.assertEqual(len(stored), 20)
        for summary in (await self.summaries()).values():
            self.assertEqual(summary["data"]["texts"], stored)

    async def test_where_summaries_were_not_maintained_there_are_none(self):
        await ClaudeSessionStore(self.store, fold_session_summary=None).append(KEY, [entry("a")])
        self.assertEqual(await self.summaries(), {})
        await self.claude.append(KEY, [entry("b")])
        self.assertEqual(await self.summaries(), {})
        self.assertEqual(texts(await self.claude.load(KEY)), ["a", "b"])

    # Our rules

    async def test_an_error_before_the_append_stores_nothing_and_after_a_retry_once(self):
        batch = [entry("a")]
        with mock.patch.object(
            self.claude._store, "append", mock.AsyncMock(side_effect=UnavailableError("away"))
        ):
            with self.assertRaises(UnavailableError):
                await self.claude.append(KEY, batch)
        self.assertIsNone(await self.claude.load(KEY))
        await self.claude.append(KEY, batch)
        self.assertEqual(texts(await self.claude.load(KEY)), ["a"])

    async def test_a_transcript_that_was_deleted_is_not_written_again(self):
        await self.claude.append(KEY, [entry("a")])
        await self.claude.append(SUB, [entry("a")])
        await self.claude.delete(KEY)
        for key in (KEY, SUB):
            with self.assertRaises(DeadSessionError):
                await self.claude.append(key, [entry("b")])
            self.assertIsNone(await self.claude.load(key))

    async def test_ids_agree_with_those_of_the_other_language(self):
        self.assertEqual(claude_agent._id(KEY), "-home-ada-work:8f14e45f-ceea-467f-a9c3-2d1b7e9a0c11:")
        self.assertEqual(claude_agent._id(SUB), claude_agent._id(KEY) + "subagents%2Fagent-1")
        odd = {"project_key": "a:b%/\N{SNOWMAN}", "session_id": "-_.!~*'()\n", "subpath": "\0"}
        self.assertEqual(claude_agent._id(odd), "a%3Ab%25%2F%E2%98%83:-_.!~*'()%0A:%00")
        long = "p" * 61
        digest = base64.urlsafe_b64encode(hashlib.sha256(long.encode()).digest()).decode()
        self.assertEqual(claude_agent._project(long), "=" + digest[:43] + ":")
        self.assertEqual(claude_agent._project("p" * 60), "p" * 60 + ":")

    async def test_long_project_keys_work_and_ids_that_are_too_long_are_errors(self):
        key = other(project_key="-very" * 45)
        await self.claude.append(key, [entry("a")])
        await self.claude.append(
            {**key, "subpath": "subagents/workflows/" + "w" * 36 + "/agent-" + "a" * 17}, [entry("s")]
        )
        self.assertEqual(len(await self.claude.list_sessions(key["project_key"])), 1)
        self.assertEqual(len(await self.claude.list_subkeys(key)), 1)
        with self.assertRaises(InvalidArgumentError):
            await self.claude.append(other(session_id="s" * 300), [entry("a")])

    async def test_the_owner_is_that_of_transcripts_it_creates(self):
        claude = ClaudeSessionStore(self.store, owner="ada")
        await claude.append(KEY, [entry("a")])
        await claude.append(SUB, [entry("a")])
        self.assertEqual(await self.store.delete_all("ada"), 2)
        self.assertIsNone(await claude.load(KEY))

    async def test_many_sessions_are_listed_page_by_page(self):
        await self.sql(
            "SELECT session_append('-home-ada-work:' || n || ':', '{\"type\": \"x\"}', namespace => %s)"
            " FROM generate_series(1, 2500) n",
            self.namespace,
        )
        self.assertEqual(
            len({row["session_id"] for row in await self.claude.list_sessions(KEY["project_key"])}), 2500
        )

    async def test_entries_that_are_no_json_are_errors_and_store_nothing(self):
        for bad in (float("nan"), object(), b"bytes"):
            with self.subTest(bad=bad), self.assertRaises((SessionStoreError, TypeError, ValueError)):
                await self.claude.append(KEY, [entry("a"), entry(bad)])
        self.assertIsNone(await self.claude.load(KEY))


if __name__ == "__main__":
    unittest.main()
