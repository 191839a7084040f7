"""What the tests of the adapters for agents share: servers, a store in a namespace of its own, and the faults
that every adapter is tried under."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import unittest

import support

try:
    import psycopg
    import psycopg_pool
    import redis.asyncio
except ImportError as missing:
    raise unittest.SkipTest(str(missing)) from missing

from session_store import AsyncSessionStore, DeadSessionError, UnavailableError

for name in ("psycopg", "psycopg.pool"):
    logging.getLogger(name).setLevel(logging.ERROR)  # they warn of connections that a test has broken

_names = (f"agents{n}" for n in itertools.count(1))


class AgentCase(unittest.IsolatedAsyncioTestCase):
    """Each test has `self.pool` and `self.store`, whose namespace nobody else uses and keeps sessions."""

    @classmethod
    def setUpClass(cls):
        cls.servers = support.start_servers()
        cls.addClassCleanup(cls.servers.stop)

    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = support.LIMIT
        self.namespace = next(_names)
        self.pool = await self.new_pool()
        await self.sql("INSERT INTO session_namespaces (name, ttl) VALUES (%s, NULL)", self.namespace)
        self.store = AsyncSessionStore(self.pool, namespace=self.namespace)

    async def new_pool(self, size=4, timeout=60):
        pool = psycopg_pool.AsyncConnectionPool(
            self.servers.dsn, min_size=1, max_size=size, timeout=timeout, open=False, reconnect_timeout=5
        )
        await pool.open()
        self.addAsyncCleanup(pool.close)
        return pool

    async def sql(self, text, *values):
        async with await psycopg.AsyncConnection.connect(self.servers.dsn, autocommit=True) as connection:
            cursor = await connection.execute(text, values)
            return await cursor.fetchall() if cursor.description else None

    async def until(self, predicate, what):
        """Waits until the predicate is true; an UnavailableError is not yet."""
        deadline = time.monotonic() + support.LIMIT
        while True:
            try:
                if await predicate():
                    return
            except UnavailableError:
                pass
            self.assertLess(time.monotonic(), deadline, f"timed out waiting until {what}")
            await asyncio.sleep(0.05)


class Faults:
    """An adapter defines adapter(store), write(adapter, key, text), read(adapter, key) -> texts,
    id_of(key)."""

    async def test_two_clients_at_once_lose_nothing(self):
        one = self.adapter(self.store)
        two = self.adapter(AsyncSessionStore(await self.new_pool(), namespace=self.namespace))
        await asyncio.gather(*(self.write(one if n % 2 else two, "c", str(n)) for n in range(30)))
        for adapter in (one, two):
            self.assertEqual(sorted(await self.read(adapter, "c"), key=int), [str(n) for n in range(30)])

    async def test_redis_away_hung_and_back_is_not_noticed(self):
        client = redis.asyncio.Redis(unix_socket_path=self.servers.redis_socket)
        self.addAsyncCleanup(client.close)
        store = AsyncSessionStore(self.pool, redis=client, namespace=self.namespace, tail_prefix="t:")
        adapter = self.adapter(store)
        await self.write(adapter, "c", "0")
        await asyncio.to_thread(self.servers.kill_redis)
        await self.write(adapter, "c", "1")
        self.assertEqual(await self.read(adapter, "c"), ["0", "1"])
        await asyncio.to_thread(self.servers.start_redis)
        await self.write(adapter, "c", "2")
        await asyncio.to_thread(self.servers.hang_redis)
        try:
            await self.write(adapter, "c", "3")
            self.assertEqual(await self.read(adapter, "c"), ["0", "1", "2", "3"])
        finally:
            await asyncio.to_thread(self.servers.resume_redis)
        await self.write(adapter, "c", "4")
        self.assertEqual(await self.read(adapter, "c"), ["0", "1", "2", "3", "4"])

    async def test_an_exhausted_pool_is_an_error_and_passes(self):
        pool = await self.new_pool(size=1, timeout=0.5)
        adapter = self.adapter(AsyncSessionStore(pool, namespace=self.namespace))
        async with pool.connection():
            with self.assertRaises(UnavailableError):
                await self.write(adapter, "c", "0")
            with self.assertRaises(UnavailableError):
                await self.read(adapter, "c")
        await self.write(adapter, "c", "1")
        self.assertEqual(await self.read(adapter, "c"), ["1"])

    async def test_a_restart_of_the_server_is_an_error_and_passes(self):
        adapter = self.adapter(AsyncSessionStore(await self.new_pool(timeout=5), namespace=self.namespace))
        await self.write(adapter, "c", "0")
        await asyncio.to_thread(self.servers.stop_postgres)
        try:
            with self.assertRaises(UnavailableError):
                await self.write(adapter, "c", "1")
        finally:
            await asyncio.to_thread(self.servers.start_postgres)
        seen = []

        async def works():
            seen[:] = await self.read(adapter, "c")
            return True

        await self.until(works, "the adapter works again")
        self.assertEqual(seen, ["0"])

    async def test_a_logout_between_read_and_write_stays(self):
        adapter = self.adapter(self.store)
        await self.write(adapter, "c", "0")
        self.assertEqual(await self.read(adapter, "c"), ["0"])
        self.assertTrue(await self.store.delete(self.id_of("c")))
        with self.assertRaises(DeadSessionError):
            await self.write(adapter, "c", "1")
        self.assertEqual(await self.read(adapter, "c"), [])

    async def test_a_canceled_call_leaves_the_adapter_working(self):
        adapter = self.adapter(self.store)
        await self.write(adapter, "c", "0")
        async with await psycopg.AsyncConnection.connect(self.servers.dsn) as blocker:
            await blocker.execute(
                "SELECT session_save(%s, '{}', namespace => %s)", (self.id_of("c"), self.namespace)
            )
            task = asyncio.ensure_future(self.write(adapter, "c", "1"))
            waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')"

            async def waits():
                return (await self.sql(waiting))[0][0]

            await self.until(waits, "the call waits for the lock")
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            await blocker.rollback()
        await self.write(adapter, "c", "2")
        # canceled: not done, or done as soon as the server gets the lock
        self.assertIn(await self.read(adapter, "c"), (["0", "2"], ["0", "1", "2"], ["0", "2", "1"]))
