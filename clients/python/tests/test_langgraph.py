"""The checkpointer of LangGraph: the cases of langgraph-checkpoint-conformance, with both kinds of stores,
and ours."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import unittest

import agents_cases
import psycopg_pool

from session_store import AsyncSessionStore, DeadSessionError, SessionStore, UnavailableError
from session_store._checkpoints import place_of
from session_store.langgraph import SessionStoreSaver

_clock = itertools.count(1)
MEDIUM = "y" * 500  # in the head
LARGE = "x" * 2000  # in a message of its own


class Serde:
    """A serializer with two types, one of which is no JSON."""

    def dumps_typed(self, value):
        if isinstance(value, bytes):
            return "bytes", value
        return "json", json.dumps(value).encode()

    def loads_typed(self, typed):
        kind, data = typed
        return data if kind == "bytes" else json.loads(data)


def new_id():
    """As an id of LangGraph: later ones are greater."""
    return f"1f{next(_clock):06x}-0000-6000-8000-000000000000"


def checkpoint(values=None, versions=None, **more):
    return {
        "v": 4,
        "id": new_id(),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values or {},
        "channel_versions": versions if versions is not None else dict.fromkeys(values or {}, "1.0"),
        "versions_seen": {},
        "updated_channels": None,
        **more,
    }


def config_of(thread="t", namespace="", checkpoint_id=None, **more):
    configurable = {"thread_id": thread, "checkpoint_ns": namespace, **more}
    if checkpoint_id:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def id_in(config):
    return config["configurable"]["checkpoint_id"]


class Contract:
    """What LangGraph demands of a checkpointer. self.saver is one."""

    async def put(
        self, parent=None, thread="t", namespace="", values=None, versions=None, new=None, **metadata
    ):
        """Puts a checkpoint behind its parent, and returns the config of it."""
        config = config_of(thread, namespace, parent and id_in(parent))
        made = checkpoint(values, versions)
        changed = made["channel_versions"] if new is None else new
        return await self.saver.aput(config, made, {"source": "loop", "step": 0, **metadata}, changed)

    async def chain(self, length, thread="t", namespace="", **more):
        configs, parent = [], None
        for step in range(length):
            source = "loop" if step % 2 else "input"
            parent = await self.put(parent, thread, namespace, **{"step": step, "source": source, **more})
            configs.append(parent)
        return configs

    async def all(self, config, **options):
        return [found async for found in self.saver.alist(config, **options)]

    async def ids(self, config, **options):
        return [id_in(found.config) for found in await self.all(config, **options)]

    # put

    async def test_put_returns_the_config_of_the_checkpoint(self):
        made = checkpoint()
        result = await self.saver.aput(config_of("t", "child:1"), made, {}, {})
        self.assertEqual(result, config_of("t", "child:1", made["id"]))

    async def test_a_checkpoint_comes_back_as_it_was_put(self):
        values = {
            "text": "a",
            "number": 1,
            "list": [1, [2]],
            "dict": {"a": None},
            "bytes": b"\0\xff",
            "none": None,
        }
        versions = {"text": "00001.5", "number": 3, "list": 2.5, "dict": "x", "bytes": "1", "none": "1"}
        made = checkpoint({**values, "large": LARGE}, {**versions, "large": "1"})
        made["versions_seen"] = {"node": {"text": "00001.5"}, "other": {}}
        metadata = {"source": "input", "step": -1, "parents": {"": "x"}, "run_id": "r", "mine": {"a": [1]}}
        config = await self.saver.aput(config_of(), made, metadata, made["channel_versions"])
        for asked in (config, config_of()):
            found = await self.saver.aget_tuple(asked)
            self.assertEqual(found.checkpoint, made)
            self.assertEqual(found.metadata, metadata)
            self.assertEqual(found.config, config)
            self.assertIsNone(found.parent_config)
            self.assertEqual(found.pending_writes, [])
        self.assertEqual(made["channel_values"]["text"], "a", "what was put is not changed")

    async def test_metadata_has_what_the_run_was_called_with(self):
        config = {
            **config_of(user="ada", __hidden="x", deep={"a": 1}),
            "metadata": {"tag": "blue", "step": 9},
        }
        config = await self.saver.aput(config, checkpoint(), {"step": 1}, {})
        self.assertEqual(
            (await self.saver.aget_tuple(config)).metadata, {"step": 1, "tag": "blue", "user": "ada"}
        )

    async def test_the_parent_is_the_checkpoint_of_the_config(self):
        first, second = await self.chain(2)
        self.assertIsNone((await self.saver.aget_tuple(first)).parent_config)
        self.assertEqual((await self.saver.aget_tuple(second)).parent_config, first)

    async def test_channels_that_did_not_change_keep_their_values(self):
        for size, text in (("small", "a"), ("medium", MEDIUM), ("large", LARGE)):
            with self.subTest(size=size):
                values = {"kept": text, "changes": text}
                config = await self.put(thread=size, values=values)
                for step in range(5):
                    values = {**values, "changes": f"{text}{step}"}
                    versions = {"kept": "1.0", "changes": f"{step + 2}.0"}
                    new = {"changes": versions["changes"]}
                    config = await self.put(config, size, values=values, versions=versions, new=new)
                    found = await self.saver.aget_tuple(config_of(size))
                    self.assertEqual(found.checkpoint["channel_values"], values)
                history = await self.all(config_of(size))
                self.assertEqual(
                    [found.checkpoint["channel_values"]["kept"] for found in history], [text] * 6
                )
                changes = [found.checkpoint["channel_values"]["changes"] for found in history]
                self.assertEqual(changes, [*(f"{text}{step}" for step in (4, 3, 2, 1, 0)), text])

    async def test_channels_are_added_and_removed(self):
        first = await self.put(values={"a": "1", "b": LARGE})
        second = await self.put(first, values={"a": "1", "c": "2"}, new={"b": "2.0", "c": "1.0"})
        third = await self.put(second, values={"c": "2"}, versions={"c": "1.0"}, new={})
        for config, values in (
            (first, {"a": "1", "b": LARGE}),
            (second, {"a": "1", "c": "2"}),
            (third, {"c": "2"}),
        ):
            self.assertEqual((await self.saver.aget_tuple(config)).checkpoint["channel_values"], values)

    async def test_a_checkpoint_that_is_put_again_is_replaced(self):
        made = checkpoint({"a": LARGE})
        await self.saver.aput(config_of(), made, {"step": 1}, made["channel_versions"])
        made = {**made, "channel_values": {"a": LARGE + "2"}}
        await self.saver.aput(config_of(), made, {"step": 2}, made["channel_versions"])
        (found,) = await self.all(config_of())
        self.assertEqual((found.metadata["step"], found.checkpoint), (2, made))
        later = await self.put(found.config)
        self.assertEqual((await self.saver.aget_tuple(found.config)).checkpoint, made)
        self.assertEqual(await self.ids(config_of()), [id_in(later), made["id"]])

    async def test_a_run_that_goes_back_has_the_values_of_where_it_went(self):
        first = await self.put(values={"a": "1", "b": LARGE})
        second = await self.put(first, values={"a": "2", "b": LARGE + "2"})
        fork = await self.put(first, values={"a": "3", "b": LARGE}, new={"a": "9"})
        for config, b in ((first, LARGE), (second, LARGE + "2"), (fork, LARGE)):
            self.assertEqual((await self.saver.aget_tuple(config)).checkpoint["channel_values"]["b"], b)
        self.assertEqual((await self.saver.aget_tuple(config_of())).config, fork)
        self.assertEqual((await self.saver.aget_tuple(fork)).parent_config, first)

    # get_tuple

    async def test_what_was_not_put_is_none(self):
        self.assertIsNone(await self.saver.aget_tuple(config_of("no thread")))
        await self.put()
        self.assertIsNone(await self.saver.aget_tuple(config_of(checkpoint_id="no such checkpoint")))
        self.assertIsNone(await self.saver.aget_tuple(config_of(checkpoint_id=new_id())))
        self.assertIsNone(await self.saver.aget_tuple(config_of(namespace="no namespace")))

    async def test_without_an_id_the_latest_is_returned(self):
        configs = await self.chain(3)
        found = await self.saver.aget_tuple(config_of())
        self.assertEqual((found.config, found.metadata["step"]), (configs[-1], 2))
        without_namespace = {"configurable": {"thread_id": "t"}}
        self.assertEqual((await self.saver.aget_tuple(without_namespace)).config, configs[-1])

    async def test_each_checkpoint_of_a_long_thread_is_found(self):
        configs = await self.chain(60, values={"a": LARGE})
        for config in configs[::7]:
            self.assertEqual((await self.saver.aget_tuple(config)).config, config)

    async def test_ids_that_are_not_in_order_are_found(self):
        made = [checkpoint({"a": LARGE}, id=name) for name in ("m", "z", "a", "q", *"bcdefghijklnop", "0")]
        for one in made:
            await self.saver.aput(config_of(), one, {}, one["channel_versions"])
        for one in made:
            self.assertEqual(
                (await self.saver.aget_tuple(config_of(checkpoint_id=one["id"]))).checkpoint, one
            )

    async def test_threads_and_namespaces_are_apart(self):
        places = [
            ("t", ""),
            ("t", "child:1"),
            ("t", "child:12"),
            ("t/", ""),
            ("t%2F", ""),
            ("", "t/"),
            ("T", ""),
        ]
        for place in places:
            await self.put(None, *place, values={"of": list(place)})
        for place in places:
            found = await self.saver.aget_tuple(config_of(*place))
            self.assertEqual(found.checkpoint["channel_values"], {"of": list(place)})
            self.assertEqual(len(await self.all(config_of(*place))), 1)

    # put_writes

    async def writes(self, config):
        return (await self.saver.aget_tuple(config)).pending_writes

    async def test_writes_are_pending_at_their_checkpoint(self):
        config = await self.put()
        await self.saver.aput_writes(config, [("a", {"n": 1}), ("b", LARGE), ("a", b"\0")], "task 1", "~path")
        await self.saver.aput_writes(config, [("a", "other")], "task 2")
        self.assertEqual(
            await self.writes(config),
            [
                ("task 1", "a", {"n": 1}),
                ("task 1", "b", LARGE),
                ("task 1", "a", b"\0"),
                ("task 2", "a", "other"),
            ],
        )

    async def test_writes_that_come_again_are_there_once(self):
        config = await self.put()
        for _ in range(2):
            await self.saver.aput_writes(config, [("a", 1), ("b", 2)], "task")
        self.assertEqual(await self.writes(config), [("task", "a", 1), ("task", "b", 2)])
        await self.saver.aput_writes(config, [("a", 1), ("b", 2), ("c", 3)], "task")
        self.assertEqual(len(await self.writes(config)), 3)

    async def test_special_writes_replace_those_before(self):
        config = await self.put()
        await self.saver.aput_writes(config, [("a", 1)], "task")
        await self.saver.aput_writes(config, [("__interrupt__", 1), ("__error__", "e")], "task")
        await self.saver.aput_writes(config, [("__interrupt__", 2)], "task")
        self.assertEqual(
            sorted(await self.writes(config)),
            [("task", "__error__", "e"), ("task", "__interrupt__", 2), ("task", "a", 1)],
        )

    async def test_no_writes_do_nothing(self):
        config = await self.put()
        await self.saver.aput_writes(config, [], "task")
        self.assertEqual(await self.writes(config), [])

    async def test_writes_of_namespaces_and_checkpoints_are_apart(self):
        root, child = await self.put(), await self.put(namespace="child:1")
        await self.saver.aput_writes(root, [("a", "root")], "task")
        await self.saver.aput_writes(child, [("a", "child")], "task")
        following = await self.put(root)
        self.assertEqual(await self.writes(root), [("task", "a", "root")])
        self.assertEqual(await self.writes(child), [("task", "a", "child")])
        self.assertEqual(await self.writes(following), [])

    async def test_writes_are_found_whenever_they_come(self):
        # LangGraph puts writes and checkpoints at the same time: either may be first.
        early = checkpoint()
        await self.saver.aput_writes(config_of(checkpoint_id=early["id"]), [("a", "early")], "task")
        self.assertIsNone(await self.saver.aget_tuple(config_of()))
        first = await self.saver.aput(config_of(), early, {}, {})
        self.assertEqual(await self.writes(first), [("task", "a", "early")])
        second = await self.put(first)
        await self.saver.aput_writes(first, [("a", "late")], "task 2")
        third = await self.put(second)
        fourth = await self.put(third)
        await self.put(await self.put(fourth))
        await self.saver.aput_writes(first, [("a", "very late")], "task 3")
        await self.chain(30)
        expected = [("task", "a", "early"), ("task 2", "a", "late"), ("task 3", "a", "very late")]
        self.assertEqual(await self.writes(first), expected)
        listed = {id_in(found.config): found.pending_writes for found in await self.all(config_of())}
        self.assertEqual(listed[id_in(first)], expected)
        self.assertEqual(await self.writes(second), [])

    async def test_writes_that_come_after_the_next_checkpoint_are_found(self):
        first = await self.put()
        second = await self.put(first)
        await self.saver.aput_writes(first, [("a", 1)], "task")
        await self.put(second)
        self.assertEqual(await self.writes(first), [("task", "a", 1)])
        self.assertEqual(await self.writes(second), [])

    async def test_the_latest_keeps_writes_that_a_run_that_went_back_has_moved(self):
        first = await self.put()
        made = checkpoint()
        second = await self.saver.aput(first, made, {}, {})
        await self.saver.aput_writes(second, [("a", 1)], "task")
        await self.put(first)
        self.assertEqual(await self.saver.aput(first, made, {}, {}), second)
        self.assertEqual((await self.saver.aget_tuple(config_of())).config, second)
        self.assertEqual(await self.writes(config_of()), [("task", "a", 1)])

    async def test_writes_at_the_same_time_lose_none(self):
        config = await self.put()
        await asyncio.gather(*(self.saver.aput_writes(config, [("a", n)], f"task {n:02}") for n in range(20)))
        self.assertEqual(await self.writes(config), [(f"task {n:02}", "a", n) for n in range(20)])
        await self.put(config)
        self.assertEqual(len(await self.writes(config)), 20)

    # list

    async def test_the_newest_are_listed_first(self):
        configs = await self.chain(4)
        self.assertEqual([found.config for found in await self.all(config_of())], configs[::-1])
        self.assertEqual(await self.all(config_of("no thread")), [])

    async def test_a_long_thread_is_listed_in_pages(self):
        configs = await self.chain(130, values={"a": LARGE})
        found = await self.all(config_of())
        self.assertEqual([one.config for one in found], configs[::-1])
        self.assertEqual({one.checkpoint["channel_values"]["a"] for one in found}, {LARGE})

    async def test_metadata_filters_the_list(self):
        await self.chain(4, score=42)
        await self.put(score=7, step=9)
        for filter, count in (
            ({"source": "input"}, 2),
            ({"step": 1}, 1),
            ({"source": "loop", "step": 1}, 1),
            ({"source": "input", "step": 1}, 0),
            ({"score": 42}, 4),
            ({"missing": None}, 0),
            ({}, 5),
            (None, 5),
        ):
            with self.subTest(filter=filter):
                self.assertEqual(len(await self.all(config_of(), filter=filter)), count)

    async def test_before_and_limit_cut_the_list(self):
        ids = [id_in(config) for config in await self.chain(30)][::-1]
        before = config_of(checkpoint_id=ids[10])
        self.assertEqual(await self.ids(config_of(), before=before), ids[11:])
        self.assertEqual(await self.ids(config_of(), before=before, limit=2), ids[11:13])
        self.assertEqual(await self.ids(config_of(), limit=3), ids[:3])
        self.assertEqual(await self.ids(config_of(), limit=100), ids)
        self.assertEqual(await self.ids(config_of(), limit=0), [])
        self.assertEqual(await self.ids(config_of(), filter={"source": "loop"}, limit=1), ids[:1])
        self.assertEqual(await self.ids(config_of(checkpoint_id=ids[5])), [ids[5]])

    async def test_the_list_of_all_namespaces_and_of_all_threads(self):
        root, child = await self.put(), await self.put(namespace="child:1")
        long = await self.put(thread="\n" * 300, namespace="n" * 300)
        self.assertEqual(len(await self.all(config_of())), 1)
        thread = {"configurable": {"thread_id": "t"}}
        self.assertCountEqual([found.config for found in await self.all(thread)], [root, child])
        self.assertCountEqual([found.config for found in await self.all(None)], [root, child, long])
        namespace = {"configurable": {"checkpoint_ns": "child:1"}}
        self.assertEqual([found.config for found in await self.all(namespace)], [child])

    async def test_listed_checkpoints_have_their_writes(self):
        first, second = await self.chain(2)
        await self.saver.aput_writes(first, [("a", 1)], "task")
        await self.saver.aput_writes(second, [("a", 2)], "task")
        self.assertEqual([found.pending_writes[0][2] for found in await self.all(config_of())], [2, 1])

    # All of these at random, against what they mean

    async def test_what_runs_at_random_have_put_is_returned(self):
        seed = random.randrange(2**32)
        with self.subTest(seed=seed):
            await self.run_at_random(random.Random(seed))

    async def run_at_random(self, chance):
        checkpoints, parents, writes = {}, {}, {}  # by the id of the checkpoint
        upcoming = checkpoint()

        def pick():
            """The latest checkpoint mostly, otherwise any."""
            known = sorted(checkpoints)
            return known[-1] if chance.random() < 0.7 else chance.choice(known)

        async def put(made, parent, new):
            checkpoints[made["id"]], parents[made["id"]] = made, parent
            await self.saver.aput(config_of(checkpoint_id=parent), made, {"id": made["id"]}, new)

        for step in range(80):
            what = chance.random()
            if not checkpoints or what < 0.5:
                parent = pick() if checkpoints else None
                before = checkpoints[parent] if parent else checkpoint()
                values, versions = dict(before["channel_values"]), dict(before["channel_versions"])
                new = {}
                for name in chance.sample("abcde", chance.randrange(4)):
                    new[name] = versions[name] = f"{step}.{chance.random()}"
                    values[name] = [step, chance.choice(("", MEDIUM, LARGE))]
                    if chance.random() < 0.2:
                        del values[name]
                upcoming.update(channel_values=values, channel_versions=versions)
                await put(upcoming, parent, new)
                upcoming = checkpoint()
            elif what < 0.55:
                again = pick()
                await put(checkpoints[again], parents[again], checkpoints[again]["channel_versions"])
            else:
                to = upcoming["id"] if chance.random() < 0.2 else pick()
                task, channel = f"task {chance.randrange(3)}", chance.choice(
                    ("a", "b", "__error__", "__interrupt__")
                )
                special = channel.startswith("_")
                value = [step if special else 0, chance.choice(("", LARGE)) if special else ""]
                await self.saver.aput_writes(config_of(checkpoint_id=to), [(channel, value)], task)
                writes.setdefault(to, {})[task, channel if special else ""] = (task, channel, value)

        def expected(checkpoint_id):
            return (
                checkpoints[checkpoint_id],
                {"id": checkpoint_id},
                parents[checkpoint_id] and config_of(checkpoint_id=parents[checkpoint_id]),
                sorted(writes.get(checkpoint_id, {}).values()),
            )

        def returned(found):
            return (*found[1:4], sorted(found.pending_writes))

        for checkpoint_id in checkpoints:
            found = await self.saver.aget_tuple(config_of(checkpoint_id=checkpoint_id))
            self.assertEqual(returned(found), expected(checkpoint_id))
        listed = {id_in(found.config): returned(found) for found in await self.all(config_of())}
        self.assertEqual(listed, {checkpoint_id: expected(checkpoint_id) for checkpoint_id in checkpoints})

    # delete_thread, copy_thread, prune

    async def test_a_thread_is_deleted_with_all_its_namespaces(self):
        root, child = await self.put(), await self.put(namespace="child:1")
        await self.saver.aput_writes(root, [("a", 1)], "task")
        others = [await self.put(thread=thread) for thread in ("t2", "t%", "other")]
        await self.saver.adelete_thread("t")
        for config in (root, child, config_of()):
            self.assertIsNone(await self.saver.aget_tuple(config))
        self.assertEqual(await self.all(config_of()), [])
        for config in others:
            self.assertIsNotNone(await self.saver.aget_tuple(config))
        await self.saver.adelete_thread("no thread")

    async def test_a_deleted_thread_is_not_brought_back_by_a_run(self):
        config = await self.put()
        await self.saver.adelete_thread("t")
        with self.assertRaises(DeadSessionError):
            await self.put(config)
        with self.assertRaises(DeadSessionError):
            await self.saver.aput_writes(config, [("a", 1)], "task")
        self.assertIsNone(await self.saver.aget_tuple(config_of()))

    async def test_a_thread_is_copied_with_all_it_has(self):
        configs = await self.chain(4, values={"a": LARGE}, tag="blue")
        await self.put(namespace="child:1")
        await self.saver.aput_writes(configs[-1], [("a", 1)], "task")
        source = await self.all({"configurable": {"thread_id": "t"}})
        await self.saver.acopy_thread("t", "u")
        copied = await self.all({"configurable": {"thread_id": "u"}})
        self.assertEqual([one[1:3] + one[4:] for one in copied], [one[1:3] + one[4:] for one in source])
        self.assertEqual({one.config["configurable"]["thread_id"] for one in copied}, {"u"})
        self.assertEqual(await self.all({"configurable": {"thread_id": "t"}}), source)
        await self.put(copied[0].config, "u")
        self.assertEqual(len(await self.all(config_of())), 4)
        await self.saver.acopy_thread("no thread", "v")
        self.assertEqual(await self.all(config_of("v")), [])

    async def test_pruning_keeps_the_latest_of_each_namespace(self):
        root = await self.chain(4, values={"a": LARGE, "b": "small"})
        child = await self.chain(2, namespace="child:1")
        other = await self.chain(2, thread="other")
        await self.saver.aput_writes(root[-2], [("a", 0)], "task")
        await self.saver.aput_writes(root[-1], [("a", 1)], "task")
        before = await self.saver.aget_tuple(root[-1])
        await self.saver.aprune(["t", "no thread"])
        self.assertEqual(await self.all(config_of()), [before])
        self.assertEqual(await self.ids(config_of("t", "child:1")), [id_in(child[-1])])
        self.assertEqual(len(await self.all(config_of("other"))), len(other))
        following = await self.put(root[-1], values={"a": LARGE, "b": "2"}, new={"b": "2"})
        self.assertEqual((await self.saver.aget_tuple(following)).checkpoint["channel_values"]["a"], LARGE)

    async def test_pruning_can_delete_and_takes_no_other_word(self):
        await self.chain(2)
        await self.saver.aprune(["t"], strategy="delete")
        self.assertEqual(await self.all(config_of()), [])
        await self.saver.aprune([])
        with self.assertRaises(ValueError):
            await self.saver.aprune(["t"], strategy="some")

    # get_delta_channel_history

    async def test_the_writes_of_a_channel_back_to_its_last_value(self):
        config, configs = None, []
        for step in range(40):
            values = {"a": step} if step in (0, 33) else {"b": step} if step == 1 else {}
            config = await self.put(config, values=values)
            await self.saver.aput_writes(config, [("a", step), ("b", -step), ("a", "again")], "task")
            configs.append(config)
        channels = ["a", "b", "c"]
        found = await self.saver.aget_delta_channel_history(config=configs[36], channels=channels)
        self.assertEqual(found["a"]["seed"], 33)
        written = [("task", "a", value) for step in (33, 34, 35) for value in (step, "again")]
        self.assertEqual(found["a"]["writes"], written)
        self.assertEqual(found["b"]["seed"], 1)
        self.assertEqual([value for _, _, value in found["b"]["writes"]], [-step for step in range(1, 36)])
        self.assertEqual(found["c"], {"writes": []})
        self.assertEqual(await self.saver.aget_delta_channel_history(config=config, channels=[]), {})
        other = await self.put(configs[2])  # a run that went back: only its own past counts
        found = await self.saver.aget_delta_channel_history(config=other, channels=["a"])
        self.assertEqual(
            [value for _, _, value in found["a"]["writes"]], [0, "again", 1, "again", 2, "again"]
        )


class AsyncSaver(Contract, agents_cases.Faults, agents_cases.AgentCase):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.saver = self.adapter(self.store)

    def adapter(self, store):
        return SessionStoreSaver(store, serde=Serde())

    async def write(self, adapter, key, text):
        await adapter.aput(config_of(key), checkpoint({"large": LARGE}), {"text": text}, {"large": "1.0"})

    async def read(self, adapter, key):
        return [found.metadata["text"] async for found in adapter.alist(config_of(key))][::-1]

    def id_of(self, key):
        return key + "/"

    async def test_there_are_no_synchronous_calls(self):
        with self.assertRaises(TypeError):
            self.saver.get_tuple(config_of())
        with self.assertRaises(TypeError):
            next(self.saver.list(config_of()))

    async def between_calls(self, other):
        """A saver before whose next call for a part of a history something else happens."""
        store = self.store.with_(reads="sql")
        run, happened = store.run, []

        async def late(statement):
            if statement.name == "history" and not happened:
                happened.append(await other())
            return await run(statement)

        store.run = late
        saver = SessionStoreSaver(self.store, serde=Serde())
        saver._store = store
        return saver, happened

    async def test_a_put_between_the_calls_of_a_read_changes_nothing_of_it(self):
        config = await self.put(values={"a": LARGE})

        async def other():
            return await self.put(config, values={"a": LARGE + "2", "b": LARGE + "3"})

        saver, happened = await self.between_calls(other)
        found = await saver.aget_tuple(config_of())
        self.assertEqual(len(happened), 1)
        self.assertEqual((found.config, found.checkpoint["channel_values"]), (config, {"a": LARGE}))

    async def test_a_put_between_the_calls_of_a_put_changes_nothing_of_it(self):
        for text in (MEDIUM, LARGE):
            config = await self.put(values={"a": text})
            fork = checkpoint({"a": text}, {"a": "1.0"})

            async def other(config=config, text=text):
                return await self.put(config, values={"a": text + "2", "b": text})

            saver, happened = await self.between_calls(other)
            mine = await saver.aput(config, fork, {}, {})
            self.assertEqual(len(happened), 1)
            for asked, values in ((mine, {"a": text}), (happened[0], {"a": text + "2", "b": text})):
                self.assertEqual((await self.saver.aget_tuple(asked)).checkpoint["channel_values"], values)

    async def test_writes_between_the_calls_of_a_put_stay(self):
        config = await self.put(values={"a": LARGE})
        await self.saver.aput_writes(config, [("a", 1)], "task 1")

        async def other():
            await self.saver.aput_writes(config, [("a", 2)], "task 2")

        saver, happened = await self.between_calls(other)
        await saver.aput(config, checkpoint({"a": LARGE}, {"a": "1.0"}), {}, {})
        self.assertEqual(len(happened), 1)
        self.assertEqual(await self.writes(config), [("task 1", "a", 1), ("task 2", "a", 2)])

    async def test_the_calls_do_not_grow_with_the_thread(self):
        calls = []
        run = self.saver._store.run

        def counted(statement):
            calls.append(statement.name)
            return run(statement)

        self.saver._store.run = counted
        for size, kept in (("small", "a"), ("medium", MEDIUM), ("large", LARGE)):
            values = {"kept": kept, "changes": "b"}
            config = await self.put(thread=size, values=values)
            seen = []
            for step in range(120):
                versions = {"kept": "1.0", "changes": str(step)}
                config = await self.put(
                    config, size, values=values, versions=versions, new={"changes": str(step)}
                )
                if step in (10, 119):
                    calls.clear()
                    await self.put(config, size, values=values, versions=versions, new={"changes": "x"})
                    await self.saver.aput_writes(config, [("a", 1)], "task")
                    await self.saver.aget_tuple(config_of(size))
                    seen.append(list(calls))
            self.assertEqual(seen[0], seen[1])
            self.assertEqual(seen[0], ["get", "append", "append", "get"] + ["history"] * (size != "small"))

    async def test_a_value_that_does_not_change_is_stored_once_unless_it_is_small(self):
        for text, times in ((MEDIUM, 1), (LARGE, 1), ("small", 21)):
            config = await self.put(thread=text[0], values={"kept": text, "changes": 0})
            for step in range(20):
                versions = {"kept": "1.0", "changes": str(step)}
                values = {"kept": text, "changes": step}
                new = {"changes": str(step)}
                config = await self.put(config, text[0], values=values, versions=versions, new=new)
            stored = Serde().dumps_typed(text)[1].decode()
            messages = json.dumps([row.message for row in await self.store.history(text[0] + "/")])
            self.assertEqual(messages.count(json.dumps(stored)), times)


class SyncSaver(Contract, agents_cases.AgentCase):
    """The same with a SessionStore, whose asynchronous methods run in threads."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        pool = psycopg_pool.ConnectionPool(self.servers.dsn, min_size=1, max_size=4, open=True)
        self.addCleanup(pool.close)
        self.saver = SessionStoreSaver(SessionStore(pool, namespace=self.namespace), serde=Serde())

    def test_the_synchronous_methods(self):
        made = checkpoint({"a": 1})
        config = self.saver.put(config_of(), made, {"step": 1}, made["channel_versions"])
        self.saver.put_writes(config, [("a", 2)], "task")
        found = self.saver.get_tuple(config_of())
        self.assertEqual((found.checkpoint, found.pending_writes), (made, [("task", "a", 2)]))
        self.assertEqual(list(self.saver.list(config_of(), limit=1)), [found])
        self.saver.copy_thread("t", "u")
        self.saver.prune(["u"])
        self.assertIsNotNone(self.saver.get_tuple(config_of("u")))
        history = self.saver.get_delta_channel_history(config=config, channels=["a"])
        self.assertEqual(history, {"a": {"writes": []}})
        self.saver.delete_thread("t")
        self.assertIsNone(self.saver.get_tuple(config_of()))
        self.assertRaises(UnavailableError, self._unreachable().get_tuple, config_of())

    def _unreachable(self):
        pool = psycopg_pool.ConnectionPool("host=/nowhere", min_size=1, open=True, timeout=0.2)
        self.addCleanup(pool.close)
        return SessionStoreSaver(SessionStore(pool), serde=Serde())


class Ids(unittest.TestCase):
    def test_ids_agree_with_those_of_the_other_language(self):
        self.assertEqual(place_of("t", "").session_id, "t/")
        self.assertEqual(place_of("a/b%c", "n:1|m:2").session_id, "a%2Fb%25c/n:1|m:2")
        self.assertEqual(place_of(7, "").of, ["7", ""])
        for thread, namespace in (
            ("t" * 150, ""),
            ("t", "n" * 250),
            ("a\nb", ""),
            ("t", "a\nb"),
            ("\ud800", "sha256:x"),
        ):
            session_id = place_of(thread, namespace).session_id
            self.assertLessEqual(len(session_id.encode()), 200)
            self.assertIn("sha256:", session_id)

    def test_versions_grow_and_differ(self):
        saver = SessionStoreSaver.__new__(SessionStoreSaver)
        versions = [saver.get_next_version(None, None)]
        for _ in range(20):
            versions.append(saver.get_next_version(versions[-1], None))
        self.assertEqual(versions, sorted(versions))
        self.assertNotEqual(saver.get_next_version("1.5", None), saver.get_next_version("1.5", None))
        self.assertTrue(saver.get_next_version(41, None).split(".")[0].endswith("42"))


if __name__ == "__main__":
    unittest.main()
