"""Flask's sessions in session_store, as Flask-Session keeps them, and moving from Flask-Session."""
import contextlib
import datetime
import inspect
import unittest
import uuid

try:
    import flask
except ImportError:
    raise unittest.SkipTest("there is no Flask")

import psycopg2
import psycopg2.pool
import redis
import support

from session_store import SessionStore, UnavailableError
from session_store.flask import SessionStoreInterface

try:
    from flask_session import Session as FlaskSession
except ImportError:
    FlaskSession = None

servers = None
COOKIE = "session"


def setUpModule():
    global servers
    servers = support.start_servers(settings={"session_store.lease": "1s", "session_store.fence": "all",
                                              "max_connections": 30})
    unittest.addModuleCleanup(servers.stop)
    servers.sql("INSERT INTO session_namespaces (name, key_prefix) VALUES ('web', 'web:')")


class Case(unittest.TestCase):
    def setUp(self):
        self.pool = psycopg2.pool.ThreadedConnectionPool(1, 4, servers.dsn)
        self.addCleanup(lambda: self.pool.closed or self.pool.closeall())
        self.redis = redis.Redis.from_url(servers.redis_url)
        self.addCleanup(self.redis.close)
        self.store = SessionStore(self.pool, namespace="web")
        self.app = self.make_app(SessionStoreInterface(self.store))
        self.client = self.app.test_client()
        self.during = lambda: None

    def make_app(self, interface, **config):
        app = flask.Flask("app")
        app.config.update(SECRET_KEY="a key of the tests", PROPAGATE_EXCEPTIONS=False, **config)
        if interface is not None:
            app.session_interface = interface

        @app.get("/put/<name>/<value>")
        def put(name, value):
            flask.session[name] = value
            self.during()
            return flask.session.sid

        @app.get("/show")
        def show():
            return {name: str(value) for name, value in flask.session.items() if name != "_permanent"}

        @app.get("/clear")
        def clear():
            flask.session.clear()
            return ""

        @app.get("/regenerate")
        def regenerate():
            app.session_interface.regenerate(flask.session)
            return flask.session.sid

        return app

    def get(self, path, client=None, status=200):
        response = (client or self.client).get(path)
        self.assertEqual(response.status_code, status, response.data)
        return response.json if response.is_json else response.text

    def with_cookie(self, sid, app=None):
        client = (app or self.app).test_client()
        before_werkzeug_2_3 = "server_name" in inspect.signature(client.set_cookie).parameters
        client.set_cookie(*["localhost"] * before_werkzeug_2_3, COOKIE, sid)
        return client

    def statements(self):
        """The statements of a block, in a list."""
        seen, run = [], self.store.run

        def note(statement):
            seen.append(statement.name)
            return run(statement)

        self.store.run = note
        return seen


class Sessions(Case):
    def test_a_session_lasts_from_request_to_request(self):
        sid = self.get("/put/name/ada")
        self.assertEqual(self.get("/show"), {"name": "ada"})
        self.assertEqual(self.store.get(sid), {"_permanent": True, "name": "ada"})
        self.assertEqual(self.get("/show", self.app.test_client()), {})

    def test_the_cookie_and_the_lifetime_are_flasks(self):
        app = self.make_app(self.app.session_interface, SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_SECURE=True,
                            PERMANENT_SESSION_LIFETIME=datetime.timedelta(hours=2))
        cookie = app.test_client().get("/put/a/1").headers["Set-Cookie"]
        for part in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Expires="):
            self.assertIn(part, cookie)
        sid = cookie.split(";")[0].split("=")[1]
        self.assertEqual(servers.value("SELECT ttl FROM conversation_sessions WHERE session_id = %s", (sid,)),
                         datetime.timedelta(hours=2))
        browser = self.make_app(self.app.session_interface, SESSION_PERMANENT=False)
        self.assertNotIn("Expires=", browser.test_client().get("/put/a/1").headers["Set-Cookie"])

    def test_values_keep_their_types(self):
        values = {"tuple": (1, (2, [3])), "bytes": b"\0\xff", "uuid": uuid.uuid4(), "text": "\0\ud800", "none": None,
                  "time": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), "dict": {" t": 1}, "n": 1.5}

        @self.app.get("/set")
        def set_all():
            flask.session.update(values)
            return ""

        @self.app.get("/check")
        def check():
            return str({name: flask.session[name] for name in values} == values)

        self.get("/set")
        self.assertEqual(self.get("/check"), "True")

    def test_each_operation_is_one_call(self):
        seen = self.statements()
        for path, calls in (("/show", []), ("/put/a/1", ["save"]), ("/show", ["get"]), ("/put/a/2", ["get", "save"]),
                            ("/regenerate", ["get", "regenerate", "save"]), ("/clear", ["get", "delete"]), ("/show", [])):
            seen.clear()
            self.get(path)
            self.assertEqual(seen, calls, path)

    def test_reading_writes_nothing_and_keeps_the_cookie(self):
        self.get("/put/a/1")
        response = self.client.get("/show")
        self.assertIn("Expires=", response.headers["Set-Cookie"])

    def test_a_new_session_without_data_is_not_saved(self):
        before = self.store.count()
        self.assertNotIn("Set-Cookie", self.client.get("/show").headers)
        self.get("/clear")
        self.assertEqual(self.store.count(), before)

    def test_clear_logs_out_and_removes_the_cookie(self):
        sid = self.get("/put/a/1")
        self.get("/clear")
        self.assertFalse(self.store.exists(sid))
        self.assertEqual(self.get("/show", self.with_cookie(sid)), {})

    def test_an_id_of_a_visitor_is_not_taken(self):
        for sid in ("x" * 43, "x" * 4000, "short", "a b", "ключ", "__proto__", "\x7f" * 20):
            client = self.with_cookie(sid)
            self.assertEqual(self.get("/show", client), {})
            self.assertNotEqual(self.get("/put/a/1", client), sid)

    def test_regenerate(self):
        old = self.get("/put/a/1")
        new = self.get("/regenerate")
        self.assertNotEqual(old, new)
        self.assertEqual(self.get("/show"), {"a": "1"})
        self.assertEqual(self.get("/show", self.with_cookie(old)), {})

    def test_the_owner_is_who_has_logged_in(self):
        sid = self.get("/put/_user_id/7")
        self.assertEqual(self.store.fetch(sid).owner_id, "7")
        self.assertEqual(self.store.delete_all("7"), 1)
        self.assertEqual(self.get("/show"), {})

    def test_a_logout_during_a_request_is_no_error_and_sticks(self):
        for path in ("/put/late/1", "/regenerate"):
            sid = self.get("/put/a/1")
            client, self.during = self.with_cookie(sid), lambda: self.store.delete(sid)
            if path == "/regenerate":
                open_session = self.app.session_interface.open_session

                def then_logout(app, request):
                    session = open_session(app, request)
                    self.store.delete(sid)
                    return session

                self.app.session_interface.open_session = then_logout
            response = client.get(path)
            self.app.session_interface.__dict__.pop("open_session", None)
            self.during = lambda: None
            self.assertEqual(response.status_code, 200)
            self.assertIn("Max-Age=0", response.headers["Set-Cookie"])
            self.assertFalse(self.store.exists(sid))
            self.assertEqual(self.get("/show", client), {})
            self.client = self.app.test_client()

    def test_a_session_that_ended_without_a_trace_during_a_request_is_not_created(self):
        sid = self.get("/put/a/1")
        self.during = lambda: servers.sql("DELETE FROM conversation_sessions WHERE session_id = %s", (sid,))
        self.get("/put/late/1")
        self.assertFalse(self.store.exists(sid))

    def test_two_clients_at_once(self):
        one, two = self.app.test_client(), self.app.test_client()
        self.get("/put/a/1", one)
        self.get("/put/a/2", two)
        self.assertEqual((self.get("/show", one), self.get("/show", two)), ({"a": "1"}, {"a": "2"}))


class Faults(Case):
    def setUp(self):
        super().setUp()
        servers.cache_ready()
        self.store = SessionStore(self.pool, namespace="web", redis=self.redis)
        self.app = self.make_app(SessionStoreInterface(self.store))
        self.client = self.app.test_client()

    def test_redis_away_hung_and_back(self):
        self.get("/put/a/0")
        for end, begin in ((servers.hang_redis, servers.resume_redis), (servers.kill_redis, servers.start_redis)):
            end()
            try:
                for n in range(3):
                    self.get(f"/put/a/{n}")
                    self.assertEqual(self.get("/show"), {"a": str(n)})
            finally:
                begin()
            servers.cache_ready()
            self.assertEqual(self.get("/show"), {"a": "2"})

    def test_an_exhausted_pool(self):
        self.get("/put/a/1")
        taken = [self.pool.getconn() for _ in range(4)]
        with self.assertRaises(UnavailableError):
            self.store.save("a", {})
        self.get("/put/a/2", status=500)
        for connection in taken:
            self.pool.putconn(connection)
        self.get("/put/a/3")
        self.assertEqual(self.get("/show"), {"a": "3"})

    def test_a_restart_of_the_server(self):
        self.get("/put/a/1")
        servers.stop_postgres()
        try:
            self.get("/put/a/2", status=500)
        finally:
            servers.start_postgres()

        def works():
            self.get("/put/a/3")
            return True

        support.wait_until(works, "it works again")
        self.assertEqual(self.get("/show"), {"a": "3"})


@unittest.skipIf(FlaskSession is None, "there is no Flask-Session")
class Previous(Case):
    """Sessions of Flask-Session are moved on their first read."""

    def setUp(self):
        super().setUp()
        self.other = redis.Redis.from_url(servers.redis_url, db=5)
        self.addCleanup(self.other.close)
        self.before = self.make_app(None, SESSION_TYPE="redis", SESSION_REDIS=self.other, SESSION_USE_SIGNER=False)
        FlaskSession(self.before)
        self.app = self.make_app(SessionStoreInterface(self.store, previous=self.before.session_interface))
        self.sid = self.get("/put/a/1", self.before.test_client())
        self.client = self.with_cookie(self.sid)

    def keys(self):
        return self.other.keys(f"*{self.sid}*")

    def test_moved_once_under_its_id(self):
        self.assertEqual(len(self.keys()), 1)
        self.assertEqual(self.get("/show"), {"a": "1"})
        self.assertEqual(self.keys(), [])
        self.assertEqual(self.get("/put/b/2"), self.sid)
        self.assertEqual(self.get("/show"), {"a": "1", "b": "2"})

    def test_what_was_logged_out_here_does_not_come_back(self):
        (key,) = self.keys()
        copy = self.other.get(key)
        self.get("/show")
        self.other.set(key, copy)  # as if it could not have been removed
        self.get("/clear")
        self.assertEqual(self.keys(), [])
        self.other.set(key, copy)
        self.assertEqual(self.get("/show", self.with_cookie(self.sid)), {})

    def test_a_logout_while_another_request_is_about_to_move_it(self):
        open_before = self.before.session_interface.open_session

        def then_logout(app, request):
            session = open_before(app, request)
            self.before.session_interface.open_session = open_before
            self.get("/clear", self.with_cookie(self.sid))
            return session

        self.before.session_interface.open_session = then_logout
        self.assertEqual(self.get("/show"), {})
        self.assertFalse(self.store.exists(self.sid))

    def test_the_faster_of_two_requests_moves_it(self):
        open_before = self.before.session_interface.open_session
        for late in (False, True):  # the other request moves it after, or before, this one has looked there
            self.sid = self.get("/put/a/1", self.before.test_client())

            def after_another(app, request):
                self.before.session_interface.open_session = open_before
                session = None if late else open_before(app, request)
                self.get("/put/a/2", self.with_cookie(self.sid))
                return open_before(app, request) if late else session

            self.before.session_interface.open_session = after_another
            self.assertEqual(self.get("/show", self.with_cookie(self.sid)), {"a": "2"})

    def test_nothing_anywhere_is_nothing(self):
        with contextlib.suppress(KeyError):
            self.assertEqual(self.get("/show", self.with_cookie("x" * 36)), {})
        self.assertFalse(self.store.exists("x" * 36))
