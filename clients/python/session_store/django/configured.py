"""What the setting SESSION_STORE says, for the session engine."""
from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any, ContextManager, Dict

from django.conf import settings
from django.core.signals import setting_changed

from .. import SessionStore
from . import DEFAULT_DATABASE, make_store
from . import savepoint as savepoint_of


@lru_cache(maxsize=None)
def store() -> SessionStore:
    return make_store(_options())


@lru_cache(maxsize=None)
def previous() -> Any:
    """The class of the engine that was used before, None without one."""
    name = _options().get("PREVIOUS")
    return None if name is None else import_module(name).SessionStore


def alias() -> str:
    return _options().get("DATABASE", DEFAULT_DATABASE)


def savepoint() -> ContextManager[None]:
    return savepoint_of(alias())


def _options() -> Dict[str, Any]:
    return getattr(settings, "SESSION_STORE", {})


def _forget(*, setting: str, **named: Any) -> None:
    if setting == "SESSION_STORE":
        store.cache_clear()
        previous.cache_clear()


setting_changed.connect(_forget)
