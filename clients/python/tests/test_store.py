"""SessionStore and AsyncSessionStore: calls, values, errors, transactions and reads from Redis."""
import asyncio
import contextlib
import datetime
import hashlib
import inspect
import math
import random
import threading
import unittest
import uuid

import psycopg2
import psycopg2.extras
import psycopg2.pool
import redis
import support

import session_store
from session_store import (AsyncSessionStore, ConflictError, DeadSessionError, InvalidArgumentError,
                           NoNamespaceError, NotAllowedError, OperationReusedError, QuotaError, SessionStore,
                           SessionStoreError, TooLargeError, TurnLostError, UnavailableError, documents)
from session_store.calls import Call, Calls

try:
    import psycopg
    import psycopg_pool
    from psycopg.rows import dict_row
except ImportError:  # then only psycopg2 is tried
    psycopg = None

servers = None


def setUpModule():
    global servers
    servers = support.start_servers(settings={"session_store.lease": "1s", "max_connections": 30})
    unittest.addModuleCleanup(servers.stop)
    servers.sql("INSERT INTO session_namespaces (name, key_prefix, ttl, hash_keys, tail_prefix, max_bytes, "
                "max_sessions_per_owner, on_quota) VALUES "
                "('hashed', 'h:', '1 hour', true, NULL, 8000000, NULL, 'evict'), "
                "('tails', 'd:', '1 hour', false, 't:', 8000000, NULL, 'evict'), "
                "('small', 's:', '1 hour', false, NULL, 64, 1, 'refuse')")
    servers.sql("CREATE ROLE nobody LOGIN")


def new_id():
    return str(uuid.uuid4())


class InALoop:
    """An AsyncSessionStore with the methods of a SessionStore, so that one test does for both."""

    def __init__(self, store, loop):
        self._store, self._loop = store, loop

    def __getattr__(self, name):
        method = getattr(self._store, name)

        def call(*args, **named):
            result = method(*args, **named)
            if inspect.isasyncgen(result):
                return iter(self._loop.run_until_complete(self._all(result)))
            if isinstance(result, AsyncSessionStore):
                return InALoop(result, self._loop)
            return self._loop.run_until_complete(result)

        return call

    @staticmethod
    async def _all(generator):
        return [each async for each in generator]


class Case(unittest.TestCase):
    def stores(self, **options):
        """A store over each kind of connection, all in autocommit."""
        connection = psycopg2.connect(servers.dsn)
        connection.autocommit = True
        self.addCleanup(connection.close)
        yield "psycopg2", SessionStore(connection, **options)
        pool = psycopg2.pool.ThreadedConnectionPool(1, 2, servers.dsn)
        self.addCleanup(pool.closeall)
        yield "psycopg2 pool", SessionStore(pool, **options)
        if psycopg is None:
            return
        with psycopg.connect(servers.dsn, autocommit=True, row_factory=dict_row) as connection:
            yield "psycopg", SessionStore(connection, **options)
        with psycopg_pool.ConnectionPool(servers.dsn, min_size=1) as pool:
            yield "psycopg pool", SessionStore(pool, **options)
        yield "function", SessionStore(lambda: psycopg.connect(servers.dsn), **options)
        options.pop("redis", None)
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            pool = psycopg_pool.AsyncConnectionPool(servers.dsn, min_size=1, open=False)
            loop.run_until_complete(pool.open())
            try:
                yield "async pool", InALoop(AsyncSessionStore(pool, **options), loop)
            finally:
                loop.run_until_complete(pool.close())

    def each(self, **options):
        for self.kind, store in self.stores(**options):
            yield store

    def _formatMessage(self, msg, standard):
        return f"{getattr(self, 'kind', '')}: {super()._formatMessage(msg, standard)}"


class TheTable(unittest.TestCase):
    def test_every_call_of_the_server_is_a_method_with_its_arguments(self):
        rows = servers.sql("""
            SELECT proname, proargnames[:pronargs], pronargdefaults FROM pg_proc
            WHERE proname ~ '^session_' AND prorettype <> 'trigger'::regtype AND EXISTS (
                SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
            AND proname NOT IN ('session_json_encode', 'session_json_decode', 'session_may', 'session_alive',
                                'session_contains', 'session_effective_expiry', 'session_store_wake')""")
        methods = {name: value for name, value in vars(Calls).items() if isinstance(value, Call)}
        self.assertEqual({name[len("session_"):] for name, _, _ in rows}, set(methods))
        for name, arguments, defaults in rows:
            method = methods[name[len("session_"):]]
            with self.subTest(name):
                self.assertEqual(set(method.encoders), set(arguments or ()) - {"namespace"})
                required = set((arguments or ())[:len(arguments or ()) - defaults]) - {"namespace"}
                self.assertEqual(method.required - {"data"}, required - {"data"})

    def test_editors_see_the_signature(self):
        store = SessionStore(lambda: None)
        self.assertEqual(list(inspect.signature(store.trim).parameters), ["session_id", "keep", "turn"])
        self.assertIn("Removes all but", store.trim.__doc__)

    def test_a_wrong_argument_is_a_type_error(self):
        store = SessionStore(lambda: None)
        for call in (lambda: store.get(), lambda: store.get("a", "b"), lambda: store.save("a", {}, tll=1),
                     lambda: store.get(7), lambda: store.save("a", {}, owner=7), lambda: store.trim("a", 1.5),
                     lambda: store.get_many("abc"), lambda: store.incr("a", "n"), lambda: store.save("a", {}, ttl=True),
                     lambda: store.incr("a", ["n"], by="1"), lambda: SessionStore(7),
                     lambda: store.with_(name_space="a")):
            with self.assertRaises(TypeError):
                call()


class EveryCall(Case):
    def test_sessions(self):
        for store in self.each():
            session_id = store.create({"a": 1}, ttl=60, owner="ada")
            self.assertEqual(store.get(session_id), {"a": 1})
            self.assertEqual(store.save(session_id, [None, "ä\0\ud800"], if_version=1), 2)
            self.assertEqual(store.get_many([session_id, "none", session_id]),
                             [[None, "ä\0\ud800"], None, [None, "ä\0\ud800"]])
            record = store.fetch(session_id)
            self.assertEqual((record.session_data, record.owner_id, record.version, record.message_count),
                             ([None, "ä\0\ud800"], "ada", 2, 0))
            self.assertIsNotNone(record.created_at.tzinfo)
            self.assertEqual(store.merge(session_id, {"b": {"c": 1}}), {"b": {"c": 1}})
            self.assertEqual(store.merge(session_id, {"b": {"d": 1}}, shallow=True), {"b": {"d": 1}})
            self.assertEqual(store.incr(session_id, ["b", 'x"\\{,}']), 1)
            self.assertEqual(store.incr(session_id, ["b", "d"], by=0.5), 1.5)
            self.assertIsNone(store.incr(session_id, ["b", "d"], max=2))
            self.assertTrue(store.exists(session_id))
            self.assertLessEqual(store.ttl(session_id), datetime.timedelta(seconds=60))
            end = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
            self.assertEqual(store.touch(session_id, expires_at=end), end)
            moved = store.regenerate(session_id)
            self.assertEqual(store.take(moved), {"b": {"d": 1.5, 'x"\\{,}': 1}})
            self.assertIsNone(store.take(moved))
            self.assertFalse(store.delete(moved))
            for missing in (store.get, store.fetch, store.touch, store.ttl, store.regenerate, store.tail, store.turn):
                self.assertIsNone(missing(new_id()), missing)
            self.assertFalse(store.exists(new_id()))

    def test_conversations(self):
        for store in self.each():
            session_id = store.create()
            messages = [{"role": "user", "content": str(n)} for n in range(7)]
            self.assertEqual(store.append(session_id, messages[0]), 1)
            self.assertEqual(store.append(session_id, messages[1:], operation_id="o", patch={"n": 7}), 7)
            self.assertEqual(store.append(session_id, messages[1:], operation_id="o", patch={"n": 7}), 7)
            self.assertEqual([each.message for each in store.history(session_id, last=2)], messages[-2:])
            for size in (1, 3, 7, 100):
                self.assertEqual([each.seq for each in store.messages(session_id, page_size=size)], list(range(1, 8)))
            part = store.messages(session_id, page_size=2, after=2, before=6)
            self.assertEqual([each.seq for each in part], [3, 4, 5])
            self.assertEqual([each.seq for each in store.window(session_id, max_messages=2)], [6, 7])
            self.assertEqual(store.compact(session_id, 2, {"sum": "\0"}), 2)
            self.assertEqual(store.tail(session_id), [{"summary": {"sum": "\0"}}, *messages[2:]])
            self.assertEqual(store.window(session_id, max_messages=3)[0].seq, None)
            self.assertEqual(store.pop(session_id), [messages[6]])
            self.assertEqual(store.pop(session_id, 1, from_start=True), [messages[0]])
            self.assertTrue(store.amend(session_id, 3, {"amended": True}))
            self.assertEqual(store.replace_tail(session_id, 1, [{"new": 1}], expected=[messages[5]]), 8)
            self.assertEqual(store.trim(session_id, 2), 3)
            fork = store.fork(session_id, up_to=5)
            self.assertEqual([each.seq for each in store.history(fork)], [5])
            self.assertEqual(store.absorb(session_id, fork), 1)

    def test_members_turns_and_counters(self):
        for store in self.each():
            session_id = store.create()
            self.assertTrue(store.share(session_id, "ada", "editor"))
            self.assertEqual([(each.member, each.role) for each in store.members(session_id)], [("ada", "editor")])
            self.assertTrue(store.unshare(session_id, "ada"))
            self.assertFalse(store.accept(session_id))
            turn = store.turn_begin(session_id, ttl="1 minute", wait=1, holder="me")
            self.assertIsNone(store.turn_begin(session_id))
            self.assertEqual(store.turn(session_id).holder, "me")
            self.assertEqual(store.save(session_id, {}, turn=turn), 2)
            self.assertTrue(store.turn_renew(session_id, turn, ttl=60))
            self.assertTrue(store.turn_end(session_id, turn))
            counter = new_id()
            hits = [store.hit(counter, 60, max=2) for _ in range(3)]
            self.assertEqual([(hit.hits, hit.remaining) for hit in hits], [(1, 1), (2, 0), (3, 0)])
            self.assertEqual(store.hit(counter, None, by=0).hits, 3)
            self.assertTrue(store.hit_reset(counter))
            self.assertEqual(store.hit(counter, None, by=0), (0, None, None))

    def test_many_sessions_and_upkeep(self):
        for store in self.each():
            owner = new_id()
            ids = [store.save(f"{owner}/{n}", {"n": n}, owner=owner) and f"{owner}/{n}" for n in range(5)]
            self.assertEqual(store.count(owner=owner), 5)
            page = store.list(owner=owner, page_size=2, with_data=True)
            self.assertEqual([each.session_data for each in page], [{"n": 4}, {"n": 3}])
            for size in (1, 2, 5, 100):
                listed = [each.session_id for each in store.sessions(id_prefix=owner, page_size=size)]
                self.assertEqual(listed, ids)
            self.assertEqual(len(store.list(owner=owner, filter={"n": 2})), 1)
            store.append(ids[0], {"m": "\0"})
            items = list(store.export_all(owner, page_size=2))
            self.assertEqual([each.kind for each in items].count("session"), 5)
            self.assertIn({"m": "\0"}, [each.item.get("message") for each in items])
            self.assertEqual(store.delete_all(owner, except_session_id=ids[0]), 4)
            self.assertEqual(store.forget(owner)["sessions"], 1)
            store.save(owner + "x", {})
            self.assertEqual(store.clear(id_prefix=owner), 1)
            store.with_(namespace="hashed").save(owner, {})
            self.assertGreaterEqual(store.with_(namespace="hashed").clear(), 1)
            self.assertIn("warnings", store.health())
            self.assertIn("session_store_saves_total", store.metrics())
            self.assertGreaterEqual(store.purge(10), 0)
            self.assertIn(store.cache_sync(60), (True, False))
            self.assertGreaterEqual(store.cache_verify(10).checked, 0)
            self.assertGreaterEqual(store.cache_flush(), 0)

    def test_clear_without_a_namespace_is_that_of_the_setting(self):
        for store in self.each():
            kept = new_id()
            store.with_(namespace="tails").save(kept, {})
            store.save(kept, {})
            self.assertGreaterEqual(store.clear(), 1)
            self.assertFalse(store.exists(kept))
            self.assertTrue(store.with_(namespace="tails").exists(kept))

    def test_the_schema_may_be_named(self):
        for store in self.each(schema="public"):
            self.assertEqual(store.get(store.create({"a": 1})), {"a": 1})
        for store in self.each(schema='no "such" %s'):
            with self.assertRaises(SessionStoreError):
                store.create()


class Values(Case):
    def test_documents_are_encoded_as_the_server_does_it(self):
        seed = random.randrange(2 ** 32)
        rand = random.Random(seed)
        for _ in range(300):
            value = {"".join(rand.choices(["\0", "\x10", "\\", '"', "u0000", "\ud800", "ä", "😀"], k=5)): 1}
            text = documents.json.dumps(value)
            same = servers.value("SELECT session_json_encode(%s) = %s::jsonb", (text, documents.encode(value)))
            self.assertTrue(same, f"seed {seed}")

    def test_any_document_comes_back(self):
        for store in self.each():
            session_id = new_id()
            for value in (None, True, 0, -1, 2 ** 70, 1.5e15, 0.1, "", "\x10", "%s", "'\\", [], {}, [[{"": None}]],
                          {"__proto__": 1}):
                store.save(session_id, value)
                self.assertEqual(store.get(session_id), value)
                self.assertIs(type(store.get(session_id)), type(value))
                self.assertTrue(store.exists(session_id))

    def test_durations(self):
        for value, seconds in ((0.5, 0.5), (1e-3, 0.001), (datetime.timedelta(microseconds=1), 1e-6), (7, 7),
                               (datetime.timedelta(days=36500), 3153600000), (1e9 + 0.25, 1e9 + 0.25)):
            text = session_store.calls.duration("ttl", value)
            self.assertEqual(servers.value("SELECT extract(epoch FROM %s::interval)::float8", (text,)), seconds)

    def test_lifetimes(self):
        for store in self.each():
            session_id = new_id()
            for ttl, seconds in ((60, 60), (datetime.timedelta(days=2), 172800), ("1 hour", 3600), (3.1e9, 3.1e9)):
                store.save(session_id, {}, ttl=ttl)
                ttl = servers.value("SELECT extract(epoch FROM ttl)::float8 FROM conversation_sessions "
                                    "WHERE session_id = %s", (session_id,))
                self.assertEqual(ttl, seconds)
            for ttl in (0, -1, math.nan, -math.inf, "1 month", "soon", datetime.timedelta(0), 4e9, 10 ** 30):
                with self.assertRaises(InvalidArgumentError, msg=ttl):
                    store.save(session_id, {}, ttl=ttl)
            store.save(session_id, {}, ttl=math.inf)
            self.assertGreater(store.ttl(session_id), datetime.timedelta(days=36000))
            past = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
            self.assertIsNone(store.save(session_id, {}, expires_at=past))
            self.assertFalse(store.exists(session_id))
            with self.assertRaises(InvalidArgumentError):
                store.save(session_id, {}, expires_at=datetime.datetime(2100, 1, 1))  # in which time zone?
            with self.assertRaises(InvalidArgumentError):
                store.save(session_id, {}, ttl=1, expires_at="infinity")

    def test_hostile_ids(self):
        for store in self.each():
            for bad in ("", "x" * 201, "a\0b", "a\x1bb", "\x7f", "\x80", "\ud800"):
                for call in (store.get, store.exists, store.delete, lambda each: store.save(each, {})):
                    with self.assertRaises(InvalidArgumentError, msg=repr(bad)) as context:
                        call(bad)
                    self.assertEqual(context.exception.code[:2], "22")
            for good in ("x" * 200, "__proto__", "'; DROP TABLE x; --", "%s%(a)s", "ключ😀", "a b", "\\", "{}"):
                store.save(good, {"id": good})
                self.assertEqual(store.get(good), {"id": good})
                self.assertEqual(store.get_many([good]), [{"id": good}])
            self.assertEqual(store.get_many([]), [])

    def test_what_has_no_json_is_refused_and_saves_nothing(self):
        for store in self.each():
            session_id = store.create({"a": 1})
            for value, error in ((object(), TypeError), ({1, 2}, TypeError), (b"b", TypeError), (math.nan, ValueError),
                                 (datetime.datetime.now(), TypeError)):
                with self.assertRaises(error):
                    store.save(session_id, {"b": value})
            self.assertEqual(store.get(session_id), {"a": 1})


class Errors(Case):
    def test_each_sqlstate_has_its_class(self):
        for store in self.each():
            session_id, small = store.create(), store.with_(namespace="small")
            dead = store.create()
            store.delete(dead)
            store.append(session_id, {"m": 1}, operation_id="o")
            owner = new_id()
            small.create(owner=owner)
            for error, code, call in (
                    (ConflictError, "40001", lambda: store.save(session_id, {}, if_version=7)),
                    (DeadSessionError, "SST10", lambda: store.save(dead, {})),
                    (OperationReusedError, "SST11", lambda: store.append(session_id, {"m": 2}, operation_id="o")),
                    (TurnLostError, "SST12", lambda: store.save(session_id, {}, turn=1)),
                    (QuotaError, "53400", lambda: small.create(owner=owner)),
                    (TooLargeError, "54000", lambda: small.create("x" * 1000)),
                    (NoNamespaceError, "42704", lambda: store.with_(namespace="none").get("a")),
                    (InvalidArgumentError, "22023", lambda: store.trim(session_id, -1)),
                    (SessionStoreError, "42883", lambda: store.with_(schema="pg_catalog").get("a"))):
                with self.assertRaises(error) as context:
                    call()
                self.assertEqual((type(context.exception), context.exception.code), (error, code))
                self.assertIsNotNone(context.exception.__cause__)
            with self.assertRaises(DeadSessionError) as context:
                store.save(dead, {})
            self.assertIn("deleted", context.exception.detail)
            self.assertIn("if_version", context.exception.hint)

    def test_a_role_without_rights(self):
        connection = psycopg2.connect(**{**servers.connection, "user": "nobody"})
        self.addCleanup(connection.close)
        with self.assertRaises(NotAllowedError):
            SessionStore(connection).get("a")

    def test_no_server(self):
        with self.assertRaises(UnavailableError):
            SessionStore(lambda: psycopg2.connect(host=str(servers.folder / "nowhere"))).get("a")
        connection = psycopg2.connect(servers.dsn)
        connection.close()
        with self.assertRaises(UnavailableError):
            SessionStore(connection).get("a")

    def test_codes_that_a_server_which_ends_or_starts_gives(self):
        for code in ("57P01", "57P02", "57P03", "53300", "08006", "08P01"):
            error = type("OperationalError", (Exception,), {"sqlstate": code})("no")
            self.assertIs(type(session_store.translate(error)), UnavailableError, code)
        self.assertIs(type(session_store.translate(type("Error", (Exception,), {"pgcode": "57014"})())),
                      SessionStoreError)
        self.assertIsNone(session_store.translate(KeyError("a")))

    def test_a_connection_that_the_server_ends(self):
        for connect in [psycopg2.connect] + ([psycopg.connect] if psycopg else []):
            connection = connect(servers.dsn)
            self.addCleanup(connection.close)
            store = SessionStore(connection)
            store.get("a")
            servers.sql("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
            for _ in range(2):
                with self.assertRaises(UnavailableError) as context:
                    store.get("a")
            self.assertIsNotNone(context.exception.code)

    def test_an_exhausted_pool_is_an_error_and_passes(self):
        pool = psycopg2.pool.ThreadedConnectionPool(1, 1, servers.dsn)
        self.addCleanup(pool.closeall)
        pools = [(pool, pool.getconn, pool.putconn)]
        if psycopg:
            pool = psycopg_pool.ConnectionPool(servers.dsn, min_size=1, max_size=1, timeout=0.2)
            self.addCleanup(pool.close)
            pools.append((pool, lambda: pool.getconn(120), pool.putconn))
        for pool, take, give in pools:
            store, taken = SessionStore(pool), take()
            with self.assertRaises(UnavailableError):
                store.get("a")
            give(taken)
            support.wait_until(lambda: store.exists("a") is False, "the pool has a connection")

    def test_a_restart_of_the_server_is_an_error_and_passes(self):
        for name, store in self.stores():
            if name not in ("psycopg2 pool", "psycopg pool", "function", "async pool"):
                continue  # a connection of its own has ended
            with self.subTest(name):
                session_id = store.create({"a": 1}, ttl="1 hour")
                servers.stop_postgres()
                try:
                    if name != "psycopg pool":  # it waits for a server, 30 seconds
                        with self.assertRaises(UnavailableError):
                            store.get(session_id)
                finally:
                    servers.start_postgres()
                support.wait_until(lambda: store.get(session_id) == {"a": 1}, "it works again")


class Transactions(Case):
    def test_a_call_is_part_of_the_callers_transaction(self):
        drivers = [psycopg2.connect] + ([psycopg.connect] if psycopg else [])
        for connect in drivers:
            connection, session_id = connect(servers.dsn), new_id()
            self.addCleanup(connection.close)
            store = SessionStore(connection)
            store.save(session_id, {"a": 1})
            connection.rollback()
            self.assertFalse(store.exists(session_id))
            store.save(session_id, {"a": 1})
            connection.commit()
            connection.rollback()
            self.assertEqual(store.get(session_id), {"a": 1})
            connection.rollback()

    def test_a_call_from_a_pool_commits_by_itself(self):
        for name, store in self.stores():
            if "pool" in name or name == "function":
                with self.subTest(name):
                    session_id = store.create({"a": 1})
                    self.assertEqual(servers.value("SELECT session_get(%s)", (session_id,)), {"a": 1})

    def test_a_connection_goes_back_to_the_pool_as_it_was(self):
        pool = psycopg2.pool.ThreadedConnectionPool(1, 1, servers.dsn)
        self.addCleanup(pool.closeall)
        SessionStore(pool).create()
        with contextlib.suppress(SessionStoreError):
            SessionStore(pool).trim("a", -1)
        connection = pool.getconn()
        self.assertFalse(connection.autocommit)
        self.assertEqual(connection.info.transaction_status, 0)

    def test_a_borrowed_connection_in_a_transaction_is_not_committed(self):
        connection, session_id = psycopg2.connect(servers.dsn), new_id()
        self.addCleanup(connection.close)
        connection.cursor().execute("SELECT 1")
        store = SessionStore(lambda: contextlib.nullcontext(connection))
        store.save(session_id, {})
        connection.rollback()
        self.assertFalse(store.exists(session_id))

    def test_using_is_in_the_transaction_of_that_connection(self):
        connection = psycopg2.connect(servers.dsn)
        self.addCleanup(connection.close)
        for store in self.each():
            if isinstance(store, InALoop):
                continue
            session_id = store.using(connection).create({"a": 1})
            self.assertIsNone(store.get(session_id))
            self.assertEqual(store.using(connection).get(session_id), {"a": 1})
            connection.rollback()
            self.assertFalse(store.exists(session_id))


class Adoption(Case):
    def test_once_and_never_what_was_logged_out(self):
        for store in self.each():
            session_id = new_id()
            self.assertTrue(store.adopt(session_id, {"a": 1}, ttl=60, owner="ada"))
            self.assertEqual(store.fetch(session_id).owner_id, "ada")
            self.assertFalse(store.adopt(session_id, {"a": 2}))
            self.assertEqual(store.get(session_id), {"a": 1})
            store.delete(session_id)
            count = store.count()
            with self.assertRaises(DeadSessionError):
                store.adopt(session_id, {"a": 3})
            self.assertEqual(store.count(), count)
            self.assertFalse(store.exists(session_id))
            for bad in ("short", "a\0" * 10, "x" * 201):
                with self.assertRaises(InvalidArgumentError):
                    store.adopt(bad, {})

    def test_of_many_at_once_one_adopts(self):
        session_id, answers = new_id(), []

        def run(n):
            connection = psycopg2.connect(servers.dsn)
            connection.autocommit = True
            with contextlib.closing(connection):
                answers.append(SessionStore(connection).adopt(session_id, {"n": n}))

        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(answers), [False] * 7 + [True])


class Counted:
    """A cursor source that counts the statements of a store."""

    def __init__(self, connection):
        self.connection, self.count = connection, 0

    def cursor(self):
        self.count += 1
        return self.connection.cursor()

    @property
    def info(self):
        return self.connection.info


class FromRedis(unittest.TestCase):
    def setUp(self):
        servers.cache_ready()
        connection = psycopg2.connect(servers.dsn)
        connection.autocommit = True
        self.addCleanup(connection.close)
        self.counted = Counted(connection)
        self.client = redis.Redis.from_url(servers.redis_url)  # without any timeout
        self.addCleanup(self.client.close)

    def store(self, **options):
        return SessionStore(self.counted, **{"redis": self.client, "namespace": "default", **options})

    def statements(self, call, *args):
        before = self.counted.count
        result = call(*args)
        return result, self.counted.count - before

    def assert_from_redis(self, value, call, *args):
        """That is so as soon as there is a lease and Redis answers in time, as it may not on a busy machine."""
        def read():
            found, count = self.statements(call, *args)
            return count == 0 and [found]

        self.assertEqual(support.wait_until(read, "Redis is read"), [value])

    def test_strong_and_plain(self):
        for reads in ("strong", "plain"):
            store, session_id = self.store(reads=reads), new_id()
            store.save(session_id, {"a": "\0"})
            servers.cache_ready()
            self.assert_from_redis({"a": "\0"}, store.get, session_id)
            self.assert_from_redis([{"a": "\0"}] * 2, store.get_many, [session_id] * 2)
            self.assertEqual(self.statements(store.get_many, [session_id, "none"]), ([{"a": "\0"}, None], 1))
            self.assertEqual(self.statements(store.get, new_id()), (None, 1))
            self.assertEqual(self.statements(store.with_(reads="sql").get, session_id), ({"a": "\0"}, 1))
            store.delete(session_id)
            self.assertIsNone(store.get(session_id))

    def test_which_copies_are_read_must_be_told(self):
        for reads in (None, "strong", "plain"):
            self.assertRaises(ValueError, SessionStore, self.counted, redis=self.client, reads=reads)
        self.assertIsNone(SessionStore(self.counted, redis=self.client, reads="sql").get(new_id()))

    def test_a_copy_without_a_lease_is_only_for_plain_readers(self):
        other = redis.Redis.from_url(servers.redis_url, db=3)  # where nobody writes a lease
        self.addCleanup(other.close)
        session_id = new_id()
        other.set("session:" + session_id, '{"old": true}')
        self.assertEqual(self.store(redis=other, reads="plain").get(session_id), {"old": True})
        self.assertIsNone(self.store(redis=other).get(session_id))

    def test_hashed_keys_and_tails(self):
        store, session_id = self.store(namespace="hashed", key_prefix="h:", hash_keys=True), new_id()
        store.save(session_id, 1)
        servers.cache_ready()
        self.assertEqual(servers.redis_command("EXISTS", "h:" + hashlib.sha256(session_id.encode()).hexdigest()), ":1")
        self.assert_from_redis(1, store.get, session_id)
        self.assertEqual(self.statements(store.tail, session_id), ([], 1))
        store = self.store(namespace="tails", key_prefix="d:", tail_prefix="t:")
        store.append(session_id, {"m": 1})
        servers.cache_ready()
        self.assert_from_redis([{"m": 1}], store.tail, session_id)

    def test_in_a_transaction_reads_see_what_it_wrote(self):
        connection = psycopg2.connect(servers.dsn)
        self.addCleanup(connection.close)
        session_id = new_id()
        self.store().save(session_id, 1)
        servers.cache_ready()
        store = SessionStore(connection, redis=self.client, namespace="default")
        store.save(session_id, 2)
        self.assertEqual(store.get(session_id), 2)
        connection.rollback()
        self.assertEqual(store.get(session_id), 1)

    def test_what_is_no_copy_is_read_by_sql(self):
        session_id = new_id()
        self.store().save(session_id, 1)
        other = redis.Redis.from_url(servers.redis_url, db=3)
        self.addCleanup(other.close)
        for junk in (b"{", b"\xff", b""):
            other.set("session:" + session_id, junk)
            self.assertEqual(self.store(redis=other, reads="plain").get(session_id), 1)
        other.delete("session:" + session_id)
        other.lpush("session:" + session_id, "a list")
        self.assertEqual(self.store(redis=other, reads="plain").get(session_id), 1)

    def test_away_hung_and_back(self):
        store, session_id, commands = self.store(), new_id(), []
        store.save(session_id, 1)
        servers.cache_ready()
        mget = store._copies._client.mget
        store._copies._client.mget = lambda keys: commands.append(1) or mget(keys)
        for end, begin in ((servers.hang_redis, servers.resume_redis), (servers.kill_redis, servers.start_redis)):
            end()
            try:
                before, now = len(commands), session_store.reads.time.monotonic
                session_store.reads.time.monotonic = lambda: 1e9  # a clock that stands: Redis stays left alone
                try:
                    for _ in range(5):
                        self.assertEqual(self.statements(store.get, session_id), (1, 1))
                finally:
                    session_store.reads.time.monotonic = now
                self.assertEqual(len(commands) - before, 1)
                store._copies._resting_until = 0.0
            finally:
                begin()
            servers.cache_ready()
            self.assert_from_redis(1, store.get, session_id)

    def test_connections_of_the_client_are_not_used(self):
        store = self.store(redis=redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(
            servers.redis_url, max_connections=1, timeout=600, connection_class=redis.UnixDomainSocketConnection)))
        client = store._redis
        taken = client.connection_pool.get_connection("PING")
        session_id = new_id()
        store.save(session_id, 1)
        servers.cache_ready()
        self.assert_from_redis(1, store.get, session_id)
        client.connection_pool.release(taken)
        self.assertIsNone(client.connection_pool.connection_kwargs.get("socket_timeout"))

    def test_options(self):
        for options in ({"redis": None, "reads": "strong"}, {"reads": "fast"}):
            with self.assertRaises(ValueError):
                self.store(**options)
        store = self.store(namespace="hashed", key_prefix="h:", hash_keys=True)
        other = store.with_(namespace="tails")
        self.assertEqual((other._prefixes["get"], other._options["hash_keys"]), ("tails:", False))
        self.assertIs(other._copies, store._copies)
        self.assertEqual(store.with_(reads="plain")._prefixes["get"], "h:")


@unittest.skipIf(psycopg is None, "there is no psycopg 3")
class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        import redis.asyncio
        asyncio.get_running_loop().slow_callback_duration = support.LIMIT
        await asyncio.to_thread(servers.cache_ready)
        self.pool = psycopg_pool.AsyncConnectionPool(servers.dsn, min_size=1, max_size=4, open=False)
        await self.pool.open()
        self.addAsyncCleanup(self.pool.close)
        self.client = redis.asyncio.Redis(unix_socket_path=servers.redis_socket)
        self.addAsyncCleanup(self.client.close)
        self.store = AsyncSessionStore(self.pool, redis=self.client, namespace="default")

    async def test_reads_from_redis(self):
        ids = [await self.store.create(n) for n in range(20)]
        await asyncio.to_thread(servers.cache_ready)
        reader = AsyncSessionStore(lambda: contextlib.nullcontext(), redis=self.client, namespace="default",
                                   redis_timeout=60)  # no SQL
        deadline = asyncio.get_running_loop().time() + support.LIMIT
        while True:
            answers = await asyncio.gather(*map(reader.get, ids), return_exceptions=True)
            if answers == list(range(20)):
                break
            self.assertLess(asyncio.get_running_loop().time(), deadline, answers)  # there was no lease

    async def test_a_canceled_read_mixes_no_answers(self):
        ids = [await self.store.create(n) for n in range(20)]
        await asyncio.to_thread(servers.cache_ready)
        for _ in range(10):
            tasks = [asyncio.ensure_future(self.store.get(each)) for each in ids]
            for task in tasks[::2]:
                asyncio.get_running_loop().call_later(random.random() / 500, task.cancel)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for n, answer in enumerate(answers):
                if not isinstance(answer, asyncio.CancelledError):
                    self.assertEqual(answer, n)
        self.assertEqual(await asyncio.gather(*map(self.store.get, ids)), list(range(20)))

    async def test_hung_and_back(self):
        session_id = await self.store.create(1)
        servers.hang_redis()
        try:
            self.assertEqual(await asyncio.gather(*(self.store.get(session_id) for _ in range(8))), [1] * 8)
        finally:
            servers.resume_redis()
        self.assertEqual(await self.store.get(session_id), 1)

    async def test_a_canceled_statement_leaves_the_pool_working(self):
        session_id = await self.store.create(1)
        connection = psycopg2.connect(servers.dsn)
        self.addCleanup(connection.close)
        SessionStore(connection).save(session_id, 2)  # holds the row
        task = asyncio.ensure_future(self.store.save(session_id, 3))
        waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')"
        await asyncio.to_thread(support.wait_until, lambda: servers.value(waiting), "it waits")
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        connection.commit()
        await asyncio.gather(*(self.store.with_(reads="sql").get(session_id) for _ in range(8)))

    async def test_in_a_transaction(self):
        session_id = await self.store.create(1)
        async with self.pool.connection() as connection:
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():
                    await self.store.using(connection).save(session_id, 2)
                    raise ZeroDivisionError
        self.assertEqual(await self.store.with_(reads="sql").get(session_id), 1)
