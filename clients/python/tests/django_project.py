"""A Django project on private servers, one in a process. Import this before anything that needs Django's settings.

SS_DJANGO_TESTS names the folder `tests` of Django's source, where its own tests are.
"""
import atexit
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from support import start_servers

OWN_TESTS = os.environ.get("SS_DJANGO_TESTS")
servers = start_servers(settings={"session_store.fence": "all", "session_store.lease": "1s"})
atexit.register(servers.stop)
servers.sql("INSERT INTO session_namespaces (name, key_prefix, tombstone) VALUES ('web', 'web:', '5 minutes'), "
            "('cache', 'cache:', '0')")

if OWN_TESTS:
    sys.path.append(OWN_TESTS)

connection = servers.connection
settings.configure(
    SECRET_KEY="a key of the tests",
    DEBUG=False,
    USE_TZ=True,
    ALLOWED_HOSTS=["testserver"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions",
                    *(["sessions_tests", "cache"] if OWN_TESTS else [])],
    ROOT_URLCONF="django_urls",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": connection["dbname"], "HOST": connection["host"],
        "PORT": connection["port"], "USER": connection["user"], "TEST": {"NAME": connection["dbname"]},
    }},
    CACHES={"default": {"BACKEND": "session_store.django.cache.SessionStoreCache",
                        "OPTIONS": {"NAMESPACE": "cache"}},
            "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    SESSION_ENGINE="session_store.django.sessions",
    SESSION_STORE={"NAMESPACE": "web"},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()
call_command("migrate", verbosity=0, run_syncdb=True)
