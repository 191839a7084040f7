"""Django's own tests of session engines and caches, unmodified, from its source."""
import os
import unittest

if not os.environ.get("SS_DJANGO_TESTS"):
    raise unittest.SkipTest("SS_DJANGO_TESTS does not name the tests of Django's source")

import django_project
from cache.tests import BaseCacheTests, caches_setting_for_tests
from django.test import TestCase, TransactionTestCase, override_settings
from sessions_tests.tests import SessionMiddlewareTests as DjangoMiddlewareTests
from sessions_tests.tests import SessionTestsMixin

from session_store.django.sessions import SessionStore


class Sessions(SessionTestsMixin, TransactionTestCase):
    backend = SessionStore


class SessionsInATransaction(SessionTestsMixin, TestCase):
    backend = SessionStore


@override_settings(SESSION_STORE={"NAMESPACE": "web", "REDIS": django_project.servers.redis_url})
class SessionsReadFromRedis(SessionTestsMixin, TransactionTestCase):
    backend = SessionStore


@override_settings(USE_TZ=False)
class SessionsWithoutTimeZones(SessionTestsMixin, TransactionTestCase):
    backend = SessionStore


class Middleware(DjangoMiddlewareTests):
    test_empty_session_saved = None  # reads the table of Django's own engine; see test_django.py


# Without the caches of these names their tests skip themselves: a cache in session_store is not culled.
NOT_CULLED = {"cull", "zero_cull"}


def caches(**options):
    return caches_setting_for_tests(
        exclude=NOT_CULLED, BACKEND="session_store.django.cache.SessionStoreCache",
        OPTIONS={"NAMESPACE": "cache", **options})


class CacheCase(BaseCacheTests):
    available_apps = ["cache"]

    def setUp(self):
        super().setUp()
        self.addCleanup(django_project.servers.sql, "SELECT session_clear('cache')")


@override_settings(CACHES=caches())
class Cache(CacheCase, TransactionTestCase):
    pass


@override_settings(CACHES=caches(REDIS=django_project.servers.redis_url))
class CacheReadFromRedis(CacheCase, TransactionTestCase):
    pass


@override_settings(CACHES=caches())
class CacheInATransaction(BaseCacheTests, TestCase):
    pass


del BaseCacheTests, SessionTestsMixin, DjangoMiddlewareTests, CacheCase
