"""Operations of several calls, written once for SessionStore and AsyncSessionStore.

An operation is a generator: it yields what a call of the store returns, and is sent the result of the call.
With a SessionStore the two are the same; with an AsyncSessionStore the first is awaited to get the second. A
stream also yields what it is a stream of, which is known by its type.
"""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import Any

from . import AsyncSessionStore


def next_of(kind: type, steps: Any) -> Any:
    """An operation: goes on with a stream until it yields one of a kind. None if there is no other."""
    result = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration:
            return None
        if isinstance(step, kind):
            return step
        result = yield step


class Operations:
    """Runs operations on `self._store`. With a SessionStore asynchronous methods run in threads; with an
    AsyncSessionStore there are only those."""

    _store: Any

    def _run(self, steps: Any) -> Any:
        if isinstance(self._store, AsyncSessionStore):
            raise TypeError("an AsyncSessionStore has only asynchronous calls")
        return _run(steps)

    async def _arun(self, steps: Any) -> Any:
        if not isinstance(self._store, AsyncSessionStore):
            return await asyncio.to_thread(_run, steps)
        result = None
        try:
            while True:
                result = await steps.send(result)
        except StopIteration as end:
            return end.value


def _run(steps: Any) -> Any:
    result = None
    try:
        while True:
            result = steps.send(result)
    except StopIteration as end:
        return end.value


def methods(operation: Any) -> Any:
    """The method that carries out an operation, and the asynchronous one."""

    @wraps(operation)
    def method(self: Any, *args: Any, **named: Any) -> Any:
        return self._run(operation(self, *args, **named))

    @wraps(operation)
    async def amethod(self: Any, *args: Any, **named: Any) -> Any:
        return await self._arun(operation(self, *args, **named))

    return method, amethod


def generators(kind: type, stream: Any) -> Any:
    """The generator of what a stream yields of a kind, and the asynchronous one."""

    @wraps(stream)
    def generator(self: Any, *args: Any, **named: Any) -> Any:
        steps = stream(self, *args, **named)
        while (item := self._run(next_of(kind, steps))) is not None:
            yield item

    @wraps(stream)
    async def agenerator(self: Any, *args: Any, **named: Any) -> Any:
        steps = stream(self, *args, **named)
        while (item := await self._arun(next_of(kind, steps))) is not None:
            yield item

    return generator, agenerator
