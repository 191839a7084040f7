"""load.py ENGINE SESSIONS [check | read SECONDS | write SECONDS]

An application with sessions, without a network before it: each request goes through Django's SessionMiddleware
to a view that reads the session, or changes it. Prints requests a second. SESSIONS are made first.
check looks whether an engine does what Django asks of it instead.
"""
import os
import sys
import time

import django
from django.conf import settings

ENGINE, SESSIONS, WHAT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
REDIS = "unix://" + os.environ["SS_REDIS_SOCKET"]

settings.configure(
    SECRET_KEY="keyboard cat",
    DEBUG=False,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.sessions"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"], "USER": os.environ["PGUSER"], "CONN_MAX_AGE": None,
    }},
    # ours reads where the server writes, database 0; Django's own cache has another
    CACHES={name: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{REDIS}?db={db}",
                   "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}}
            for name, db in (("default", 1), ("sessions", 0))},
    SESSION_ENGINE=ENGINE,
    SESSION_COOKIE_AGE=24 * 3600,
)
django.setup()

from django.contrib.sessions.backends.base import UpdateError  # noqa: E402
from django.contrib.sessions.middleware import SessionMiddleware  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402


def read(request):
    return HttpResponse(f'{request.session["user"]} {request.session["visits"]}')


def write(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    if "user" not in request.session:
        request.session["user"] = os.urandom(8).hex()
        request.session["cart"] = os.urandom(450).hex()  # a session of 1 KB
    return read(request)


def requests(view):
    """A function that carries out one request, with a session's cookie, and returns the response."""
    factory, app = RequestFactory(), SessionMiddleware(view)

    def carry_out(key=None):
        request = factory.get("/")
        if key is not None:
            request.COOKIES[settings.SESSION_COOKIE_NAME] = key
        return app(request)
    return carry_out


def begin():
    """A session: its key, and what its user is called."""
    response = requests(write)()
    return response.cookies[settings.SESSION_COOKIE_NAME].value, response.content.split()[0]


def measure(view, seconds):
    sessions = [begin() for _ in range(SESSIONS)]
    carry_out = requests(view)
    done, started = 0, time.monotonic()
    while time.monotonic() < started + seconds:
        key, user = sessions[done % SESSIONS]
        assert carry_out(key).content.split()[0] == user
        done += 1
    print(round(done / (time.monotonic() - started), 1))


def check():
    store = SessionMiddleware(read).SessionStore
    key, user = begin()
    for visit in (2, 3):
        requests(write)(key)
        assert requests(read)(key).content == b"%s %d" % (user, visit), "the next request sees what the last one saved"
    assert store().exists(key) and not store().exists("x" * 32)

    late = store(key)
    late["late"] = True
    store(key).flush()
    assert not store().exists(key) and store(key).load() == {}, "after a logout there is no session"
    try:
        late.save()
        raise AssertionError("nor after a save that came late")
    except UpdateError:
        pass

    cycled = store(begin()[0])
    old, user = cycled.session_key, cycled["user"]
    cycled.cycle_key()
    assert cycled.session_key != old and store(cycled.session_key)["user"] == user and not store(old).keys()

    short = store(cycled.session_key)
    short.set_expiry(1)
    short.save()
    deadline = time.monotonic() + 4
    while store(short.session_key).load():
        assert time.monotonic() < deadline, "a session ends with its age"
        time.sleep(0.05)


if WHAT == "check":
    call_command("migrate", verbosity=0)
    check()
else:
    measure({"read": read, "write": write}[WHAT], float(sys.argv[4]))
