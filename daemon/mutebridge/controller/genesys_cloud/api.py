"""Requests to the Platform API in the user's name: token, rate limit, errors.

A token that is refused (401) is renewed once per request. A rate limit (429) is waited for as long as the request is
wanted, else told; until its `Retry-After` is over nothing else is sent, as that would prolong it. The defaults are 300
requests a minute for a user of one OAuth client (organization limit `org.app.user.rate.per.minute`).

Errors are bodies of the form ErrorBody: `{"message", "code", "status", "messageParams", ...}`. A missing permission is
403 with the code `missing.permissions` or `missing.any.permissions`, whose message ends in the names in brackets; a
token without the scope is refused with 403 too.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mutebridge.controller.genesys_cloud.exchange import (
    Answer,
    Exchange,
    ExchangeError,
    NotSentError,
    UnansweredError,
    Wanted,
)
from mutebridge.controller.genesys_cloud.login import Tokens

DEFAULT_RETRY_AFTER_S = 60.0
MAX_MESSAGE = 500

_NAMES = re.compile(r"[A-Za-z][\w-]*(?::[\w-]+)+|(?<=\[)[A-Za-z][\w-]*(?=\])")


class ApiError(Exception):
    """The Platform API refused: it did not do what was asked (4xx), or may have (5xx)."""

    def __init__(self, status: int, code: str = "", message: str = "", names: tuple[str, ...] = ()) -> None:
        super().__init__(
            f"Genesys Cloud answered {status}{f' ({code})' if code else ''}{f': {message}' if message else ''}"
        )
        self.status = status
        self.code = code
        self.message = message
        self.names = names

    @property
    def perhaps_done(self) -> bool:
        return self.status >= 500

    @property
    def missing_permission(self) -> bool:
        words = f"{self.code} {self.message}".lower()
        return self.status == 403 and ("permission" in words or "scope" in words)


class RateLimitedError(Exception):
    """Nothing was done; `retry_after_s` from now on something will be."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"Genesys Cloud's rate limit for this user is reached; it asks for {retry_after_s:.0f} s of patience"
        )
        self.retry_after_s = retry_after_s


class _ErrorBody(msgspec.Struct, frozen=True, rename="camel"):
    message: str | None = None
    code: str | None = None
    message_params: dict[str, Any] | None = None


class Api:
    """The Platform API as one user; for any thread, one request after the other."""

    def __init__(self, base_url: str, tokens: Tokens, *, wait: Callable[[float], object] | None = None) -> None:
        """`wait` sleeps for some seconds, or less when the program ends."""
        self._exchange = Exchange(base_url)
        self._tokens = tokens
        self._wait = wait or threading.Event().wait
        self._not_before = 0.0

    def request(self, method: str, path: str, body: object = None, *, wanted: Wanted) -> Any:
        """Return the JSON of the answer, None for an empty one.

        ExchangeError, ApiError, RateLimitedError, LoginError.
        """
        renewed = False
        while True:
            self._keep_rate(wanted)
            token = self._tokens.access_token
            answer = self._exchange.send(method, path, _headers(token, body), _encoded(body), wanted)
            if answer.status == 429:
                self._not_before = time.monotonic() + _retry_after_s(answer.headers)
            elif answer.status == 401 and not renewed:
                renewed = True
                self._renew(token, wanted)
            elif 200 <= answer.status < 300:
                return _decoded(answer)
            else:
                raise _error(answer)

    def abort(self) -> None:
        """Let what is under way in another thread end."""
        self._exchange.abort()

    def close(self) -> None:
        self._exchange.close()

    def _renew(self, refused: str, wanted: Wanted) -> None:
        try:
            self._tokens.renew(refused, wanted)
        except ExchangeError as error:  # what was asked for was refused, whatever became of the renewal
            raise NotSentError(f"the login cannot be renewed: {error}") from None

    def _keep_rate(self, wanted: Wanted) -> None:
        pause_s = self._not_before - time.monotonic()
        if pause_s <= 0:
            return
        if pause_s >= wanted():
            raise RateLimitedError(pause_s)
        self._wait(pause_s)


def within(seconds: float) -> Wanted:
    """Wanted for so long from now on."""
    deadline = time.monotonic() + seconds
    return lambda: deadline - time.monotonic()


def _headers(token: str, body: object) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    return headers if body is None else headers | {"Content-Type": "application/json"}


def _encoded(body: object) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)


def _decoded(answer: Answer) -> Any:
    if not answer.body.strip():
        return None
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnansweredError(f"Genesys Cloud answered {answer.status} with something else than JSON") from None


def _error(answer: Answer) -> ApiError:
    try:
        body = msgspec.json.decode(answer.body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ApiError(answer.status)  # a page of some gateway
    message = (body.message or "")[:MAX_MESSAGE]
    params = " ".join(str(value) for value in (body.message_params or {}).values())[:MAX_MESSAGE]
    names = tuple(dict.fromkeys(_NAMES.findall(f"{message} {params}")))
    return ApiError(answer.status, body.code or "", message, names)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds, as Genesys Cloud sends them; never more than a few minutes, whoever sent it."""
    try:
        return min(300.0, max(0.0, float(headers["retry-after"])))
    except (KeyError, ValueError):
        return DEFAULT_RETRY_AFTER_S
