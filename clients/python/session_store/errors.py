"""Errors of the store, by the SQLSTATE that PostgreSQL gives them, for both drivers."""
from __future__ import annotations

from typing import Any, Dict, Iterator, Optional, Type


class SessionStoreError(Exception):
    """An error of a call. The driver's own error is its `__cause__`."""

    def __init__(self, message: str, code: Optional[str] = None, detail: Optional[str] = None,
                 hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code, self.detail, self.hint = code, detail, hint


class ConflictError(SessionStoreError):
    """40001: another version than if_version, other messages than expected, or a serialization failure."""


class DeadSessionError(SessionStoreError):
    """SST10: the session was logged out, evicted, regenerated or absorbed, and its id is dead."""


class OperationReusedError(SessionStoreError):
    """SST11: the operation_id was used with other arguments."""


class TurnLostError(SessionStoreError):
    """SST12: the turn is not held, or one is required."""


class QuotaError(SessionStoreError):
    """53400: the owner has too many sessions."""


class TooLargeError(SessionStoreError):
    """54000: the document, a message or the filter is too large."""


class NotAllowedError(SessionStoreError):
    """42501: the caller is not allowed to do this."""


class NoNamespaceError(SessionStoreError):
    """42704: there is no such namespace."""


class InvalidArgumentError(SessionStoreError, ValueError):
    """Class 22: an argument is not acceptable."""


class UnavailableError(SessionStoreError):
    """The server cannot be reached, shuts down, or no connection was free in time."""


_BY_CODE: Dict[str, Type[SessionStoreError]] = {
    "40001": ConflictError,
    "SST10": DeadSessionError,
    "SST11": OperationReusedError,
    "SST12": TurnLostError,
    "53400": QuotaError,
    "54000": TooLargeError,
    "42501": NotAllowedError,
    "42704": NoNamespaceError,
    "53300": UnavailableError,
}
_BY_CLASS: Dict[str, Type[SessionStoreError]] = {"22": InvalidArgumentError, "08": UnavailableError}

# Errors that a driver or pool raises by itself, by their names in PEP 249 and in the pools. They have no SQLSTATE.
_WITHOUT_CODE = {
    "DataError": ("22000", InvalidArgumentError),
    "OperationalError": ("08000", UnavailableError),
    "InterfaceError": ("08000", UnavailableError),
    "PoolError": ("08000", UnavailableError),
    "OSError": ("08000", UnavailableError),
    "ValueError": ("22000", InvalidArgumentError),
    "Error": (None, SessionStoreError),
}


def translate(error: BaseException) -> Optional[SessionStoreError]:
    """The error of the store for an error of a driver, a pool or Django; None if it is none of these."""
    for source in _with_causes(error):
        code = getattr(source, "sqlstate", None) or getattr(source, "pgcode", None)
        if code:
            diag: Any = getattr(source, "diag", None)
            kind = _BY_CODE.get(code) or _BY_CLASS.get(code[:2]) or SessionStoreError
            if code.startswith("57P0"):
                kind = UnavailableError
            return kind(getattr(diag, "message_primary", None) or str(source), code,
                        getattr(diag, "message_detail", None), getattr(diag, "message_hint", None))
    for base in type(error).__mro__:
        if base.__name__ in _WITHOUT_CODE:
            code, kind = _WITHOUT_CODE[base.__name__]
            return kind(str(error).strip() or base.__name__, code)
    return None


def _with_causes(error: Optional[BaseException]) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
