"""django_requests.py ENGINE SESSIONS [migrate | read SECONDS | write SECONDS]

An application with sessions, without a network before it: each request goes through Django's SessionMiddleware
to a view that reads the session, or changes it. Prints requests a second. SESSIONS are made first.
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
    CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{REDIS}?db=1",
                        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}}},
    SESSION_ENGINE=ENGINE,
    SESSION_STORE={"NAMESPACE": "bench", "REDIS": REDIS},
    SESSION_COOKIE_AGE=24 * 3600,
)
django.setup()

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
    """A session: its key, what its user is called, and how often it was changed."""
    response = requests(write)()
    return [response.cookies[settings.SESSION_COOKIE_NAME].value, response.content.split()[0], 1]


def measure(view, seconds):
    sessions = [begin() for _ in range(SESSIONS)]
    carry_out = requests(view)
    done, started = 0, time.monotonic()
    while time.monotonic() < started + seconds:
        session = sessions[done % SESSIONS]
        session[2] += view is write
        key, user, visits = session
        assert carry_out(key).content == b"%s %d" % (user, visits), "a request sees what the last one saved"
        done += 1
    print(round(done / (time.monotonic() - started), 1))


if WHAT == "migrate":
    call_command("migrate", verbosity=0)
else:
    measure({"read": read, "write": write}[WHAT], float(sys.argv[4]))
