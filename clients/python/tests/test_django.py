"""Django's sessions and caches in session_store: what Django's own tests do not ask."""
import contextlib
import threading
import unittest
from importlib import import_module

try:
    import django  # noqa: F401
except ImportError:
    raise unittest.SkipTest("there is no Django")

import django_project
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory, TransactionTestCase, override_settings
from support import wait_until

from session_store import UnavailableError
from session_store.django import make_store
from session_store.django.sessions import SessionStore

servers = django_project.servers
READS_REDIS = {"NAMESPACE": "web", "REDIS": servers.redis_url}


def row(key, columns):
    return servers.sql(f"SELECT {columns} FROM session_fetch(%s, 'web')", (key,))[0]


def made(**data):
    session = SessionStore()
    session.update(data)
    session.save()
    return session


@contextlib.contextmanager
def statements():
    """The statements of a block, in a list."""
    seen = []

    def note(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen


class Case(TransactionTestCase):
    available_apps = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]


class Sessions(Case):
    def test_a_session_is_a_plain_document(self):
        session = made(name="ada\0", list=[1, None])
        self.assertEqual(row(session.session_key, "session_data"), ({"name": "ada\x100000", "list": [1, None]},))
        self.assertEqual(SessionStore(session.session_key)["name"], "ada\0")

    def test_each_operation_is_one_call(self):
        for operation in ("load", "save", "exists", "delete", "cycle_key"):
            session = made(a=1)
            arguments = [session.session_key] if operation == "exists" else []
            with statements() as seen:
                getattr(session, operation)(*arguments)
            self.assertEqual(len(seen), 1, (operation, seen))
        with statements() as seen:
            made(a=1)
        self.assertEqual(len(seen), 1, seen)

    def test_an_empty_session_keeps_its_key(self):
        session = made(a=1)
        del session["a"]
        session.save()
        again = SessionStore(session.session_key)
        self.assertEqual(dict(again.items()), {})
        self.assertEqual(again.session_key, session.session_key)

    def test_reads_do_not_prolong_and_saves_do(self):
        session = made(a=1)
        first = row(session.session_key, "expires_at")
        SessionStore(session.session_key).load()
        self.assertEqual(row(session.session_key, "expires_at"), first)
        session.save()
        self.assertGreater(row(session.session_key, "expires_at"), first)

    def test_a_session_belongs_to_the_user_who_is_logged_in(self):
        user = User.objects.create_user("ada", password="p")
        client = Client()
        self.assertTrue(client.login(username="ada", password="p"))
        key = client.cookies["sessionid"].value
        self.assertEqual(row(key, "owner_id"), (str(user.pk),))
        self.assertEqual(SessionStore.store().delete_all(str(user.pk)), 1)
        self.assertFalse(SessionStore().exists(key))

    def test_a_login_gives_another_key_and_ends_the_old_one(self):
        User.objects.create_user("ada", password="p")
        client = Client()
        client.get("/put/cart/7")
        old = client.cookies["sessionid"].value
        client.login(username="ada", password="p")
        new = client.cookies["sessionid"].value
        self.assertNotEqual(old, new)
        self.assertFalse(SessionStore().exists(old))
        self.assertEqual(SessionStore(new)["cart"], "7")

    def test_a_save_after_a_logout_is_refused_and_revives_nothing(self):
        late = made(a=1)
        late["late"] = True
        SessionStore(late.session_key).flush()
        with self.assertRaises(UpdateError):
            late.save()
        self.assertFalse(SessionStore().exists(late.session_key))

    def test_a_save_does_not_create_what_has_expired_or_was_removed(self):
        for end in ("UPDATE conversation_sessions SET expires_at = '2000-01-01' WHERE session_id = %s",
                    "DELETE FROM conversation_sessions WHERE session_id = %s"):
            late = made(a=1)
            servers.sql(end, (late.session_key,))
            with self.assertRaises(UpdateError):
                late.save()
            self.assertFalse(SessionStore().exists(late.session_key))

    def test_another_key_after_a_logout_is_none(self):
        late = made(a=1)
        key = late.session_key
        SessionStore(key).flush()
        late.cycle_key()
        with self.assertRaises(UpdateError):
            late.save()
        self.assertEqual(late.session_key, key)

    def test_a_request_that_is_running_at_the_logout_is_answered_400(self):
        key = made(a=1).session_key

        def view(request):
            request.session["late"] = True
            SessionStore(key).flush()
            return HttpResponse()

        request = RequestFactory().get("/")
        request.COOKIES["sessionid"] = key
        with self.assertRaises(SessionInterrupted):
            SessionMiddleware(view)(request)

    def test_a_refused_save_does_not_break_the_transaction(self):
        late = made(a=1)
        late.load()
        SessionStore(late.session_key).flush()
        with transaction.atomic():
            with self.assertRaises(UpdateError):
                late.save()
            User.objects.create(username="kept")
        self.assertTrue(User.objects.filter(username="kept").exists())

    def test_a_rollback_undoes_the_save(self):
        session = made(a=1)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            session["a"] = 2
            session.save()
            self.assertEqual(SessionStore(session.session_key)["a"], 2)
            raise ZeroDivisionError
        self.assertEqual(SessionStore(session.session_key)["a"], 1)

    def test_hostile_keys_have_no_session_and_are_no_error(self):
        for key in ("x" * 10000, "key\0key\0", "k\x1bkkkkkkk", "ключключ", "\ud800" * 8, "short", "", "a b\tc d e"):
            session = SessionStore(key)
            with transaction.atomic():
                self.assertEqual(session.load() if session.session_key else {}, {})
                self.assertFalse(session.exists(key))
                session.delete(key)
                self.assertEqual(User.objects.count(), 0)
            session["a"] = 1
            session.save()
            self.assertNotEqual(session.session_key, key)
        for name in ("__proto__", "constructor", "__class__"):
            self.assertIsNone(made(a=1).get(name))

    def test_what_is_no_json_is_an_error_and_saves_nothing(self):
        session = made(a=1)
        for value, error in ((object(), TypeError), ({1}, TypeError), (b"b", TypeError), (float("nan"), ValueError)):
            session["a"] = value
            with self.assertRaises(error):
                session.save()
        self.assertEqual(SessionStore(session.session_key)["a"], 1)

    def test_two_requests_at_once_leave_one_of_their_documents(self):
        key = made(n=0).session_key

        def run(n):
            try:
                session = SessionStore(key)
                session["n"] = n
                session.save()
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertIn(SessionStore(key)["n"], range(1, 9))

    def test_an_unknown_option_is_an_error(self):
        with self.assertRaises(ImproperlyConfigured):
            make_store({"NAMSPACE": "web"})


@override_settings(SESSION_STORE=READS_REDIS)
class Faults(Case):
    def setUp(self):
        servers.cache_ready()

    def until_read_from_redis(self, key):
        def read():
            with statements() as seen:
                SessionStore(key).load()
            return not seen

        wait_until(read, "Redis is read")

    def test_a_read_comes_from_redis_and_after_a_logout_from_nowhere(self):
        session = made(a=1)
        servers.cache_ready()
        self.until_read_from_redis(session.session_key)
        self.assertEqual(SessionStore(session.session_key)["a"], 1)
        SessionStore(session.session_key).flush()
        self.assertEqual(SessionStore(session.session_key).load(), {})

    def test_in_a_transaction_reads_see_what_it_wrote(self):
        session = made(a=1)
        servers.cache_ready()
        with transaction.atomic():
            session["a"] = 2
            session.save()
            self.assertEqual(SessionStore(session.session_key)["a"], 2)

    def test_redis_away_hung_and_back(self):
        session = made(a=1)
        for end, begin in ((servers.kill_redis, servers.start_redis), (servers.hang_redis, servers.resume_redis)):
            end()
            try:
                for n in range(3):
                    session["a"] = n
                    session.save()
                    self.assertEqual(SessionStore(session.session_key)["a"], n)
            finally:
                begin()
            servers.cache_ready()
            self.until_read_from_redis(session.session_key)

    def test_a_restart_of_the_server(self):
        session = made(a=1)
        servers.stop_postgres()
        try:
            with self.assertRaises(UnavailableError):
                session.save()
        finally:
            servers.start_postgres()
        connection.close()  # as Django does after each request
        session["a"] = 2
        session.save()
        self.assertEqual(SessionStore(session.session_key)["a"], 2)

    def test_no_connection_is_free(self):
        session = made(a=1)
        connection.close()
        others = []
        try:
            with self.assertRaises(Exception):
                while True:
                    others.append(servers.connect())
            with self.assertRaises(UnavailableError):
                session.save()
        finally:
            for other in others:
                other.close()
        wait_until(lambda: servers.value("SELECT true"), "a connection is free")
        session.save()


class Previous(Case):
    """Sessions of the engine that was used before are moved here."""

    ENGINES = ("db", "cached_db", "cache")

    def each(self):
        for name in self.ENGINES:
            engine = f"django.contrib.sessions.backends.{name}"
            with self.subTest(name), override_settings(
                    SESSION_STORE={"NAMESPACE": "web", "PREVIOUS": engine}, SESSION_CACHE_ALIAS="local"):
                old = import_module(engine).SessionStore()
                old["name"] = "ada"
                old["_auth_user_id"] = "7"
                old.save()
                yield import_module(engine).SessionStore, old.session_key

    def test_a_session_is_moved_once_under_its_key(self):
        for previous, key in self.each():
            self.assertEqual(SessionStore(key)["name"], "ada")
            self.assertEqual(row(key, "session_data ->> 'name', owner_id"), ("ada", "7"))
            self.assertFalse(previous().exists(key))
            session = SessionStore(key)
            session["name"] = "grace"
            session.save()
            self.assertEqual(SessionStore(key)["name"], "grace")

    def test_what_was_logged_out_here_is_not_moved_again(self):
        for previous, key in self.each():
            SessionStore(key).load()
            copy = previous(key)  # as a copy of the old store that comes back
            copy["name"] = "ada"
            with contextlib.suppress(UpdateError):
                copy.save()
            SessionStore(key).flush()
            stale = previous()
            stale._session_key = key
            stale["name"] = "ada"
            stale.save(must_create=True)
            self.assertEqual(SessionStore(key).load(), {})
            self.assertFalse(previous().exists(key))

    def test_a_logout_before_the_move_ends_it_in_both(self):
        for previous, key in self.each():
            session = SessionStore(key)
            session.delete()
            self.assertFalse(previous().exists(key))
            self.assertEqual(SessionStore(key).load(), {})

    def test_a_logout_while_a_request_is_about_to_move_it(self):
        for previous, key in self.each():
            late = SessionStore(key)
            load = previous.load

            def and_then_a_logout(old):
                data = load(old)
                previous.load = load
                SessionStore(key).delete()
                return data

            previous.load = and_then_a_logout
            try:
                self.assertEqual(late.load(), {})
            finally:
                previous.load = load
            self.assertFalse(SessionStore().exists(key))

    def test_the_faster_of_two_requests_moves_it(self):
        for previous, key in self.each():
            load = previous.load

            def after_another(old):
                previous.load = load
                session = SessionStore(key)
                session["name"] = "grace"
                session.save()
                return load(old)

            previous.load = after_another
            try:
                self.assertEqual(SessionStore(key)["name"], "grace")
            finally:
                previous.load = load

    def test_a_rollback_leaves_it_where_it_was(self):
        for previous, key in self.each():
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                self.assertEqual(SessionStore(key)["name"], "ada")
                raise ZeroDivisionError
            self.assertEqual(previous(key)["name"], "ada")
            self.assertEqual(SessionStore(key)["name"], "ada")

    def test_nothing_anywhere_is_nothing(self):
        for previous, key in self.each():
            session = SessionStore("x" * 32)
            self.assertEqual(session.load(), {})
            self.assertIsNone(session.session_key)


class Caches(Case):
    def setUp(self):
        self.cache = caches["default"]
        self.addCleanup(self.cache.clear)

    def test_incr_is_atomic_and_keeps_the_expiry(self):
        self.cache.set("n", 0, 1000)
        expiry = servers.value("SELECT expires_at FROM session_list(namespace => 'cache')")

        def run():
            try:
                for _ in range(20):
                    caches["default"].incr("n")
            finally:
                connection.close()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.cache.get("n"), 80)
        self.assertEqual(servers.value("SELECT expires_at FROM session_list(namespace => 'cache')"), expiry)

    def test_reads_do_not_prolong(self):
        self.cache.set("k", "v", 1000)
        expiry = servers.value("SELECT expires_at FROM session_list(namespace => 'cache')")
        self.cache.get("k")
        self.assertEqual(servers.value("SELECT expires_at FROM session_list(namespace => 'cache')"), expiry)

    def test_any_value_comes_back_with_its_type(self):
        for value in (True, 0, -1, 2 ** 80, 1.5, float("inf"), "a\0\ud800", b"\0\xff", (1, 2), {1: {2}}, None, [None]):
            self.cache.set("k", value)
            found = self.cache.get("k", "missing")
            self.assertEqual(found, value)
            self.assertIs(type(found), type(value))

    def test_any_key_works(self):
        keys = ["x" * 5000, "a\0b", "a\0c", "\ud800", "ключ" * 60, "sha256:1", "__proto__", " ", ""]
        with self.assertWarnsRegex(RuntimeWarning, "memcached"):
            for n, key in enumerate(keys):
                self.cache.set(key, n)
        self.assertEqual(self.cache.get_many(keys), {key: n for n, key in enumerate(keys)})
        for key in keys:
            self.assertTrue(self.cache.delete(key))
        self.assertEqual(self.cache.get_many(keys), {})

    def test_a_name_is_reused_at_once(self):
        for _ in range(3):
            self.assertTrue(self.cache.add("k", "v"))
            self.assertFalse(self.cache.add("k", "other"))
            self.cache.delete("k")
            self.cache.set("k", "v")
            self.cache.clear()

    def test_each_operation_is_one_call(self):
        self.cache.set("k", 1)
        for operation, arguments in (
                ("get", "k"), ("set", ("k", 2)), ("add", ("k", 2)), ("touch", "k"), ("has_key", "k"),
                ("get_many", [["k", "l"]]), ("delete", "k"), ("clear", ())):
            with statements() as seen:
                getattr(self.cache, operation)(*arguments)
            self.assertEqual(len(seen), 1, (operation, seen))

