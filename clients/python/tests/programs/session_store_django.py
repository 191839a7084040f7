
import django

django.setup()

from django.core.cache import cache  # noqa: E402
from session_store.django.sessions import SessionStore  # noqa: E402

session = SessionStore()
session["name"] = "ada"
session.save()
assert SessionStore(session.session_key)["name"] == "ada"
session.flush()
cache.set("n", 1)
assert cache.incr("n") == 2
