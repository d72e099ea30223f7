"""The user's login at Genesys Cloud: tokens, where they are kept, how they are renewed.

Muting is something that a user does, so a user has to have logged in: the client credentials grant, which has no user,
cannot be used, as Genesys Cloud then has no "logged-in user's conversations" to tell of. There are two ways.

*A login of our own*, by the authorization code grant with PKCE (RFC 7636): `mutebridge controller genesys-cloud login`
writes a file that only its owner may read, and every renewal writes it again. Whether a refresh token is given is up to
the OAuth client's settings; without one, the login lasts as long as its access token (a day by default). An OAuth
client with a secret may be used too.

*A supplied token*: a file that somebody else keeps fresh, or a systemd credential.

Both are files, and a file that changed is as good as a renewal: whoever logs in anew needs to restart nothing. Secrets
are never in arguments, logs or messages.
"""

import base64
import contextlib
import hashlib
import logging
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import msgspec

from mutebridge.controller.genesys_cloud.exchange import Answer, Exchange, ExchangeError, Wanted

_log = logging.getLogger(__name__)

RENEW_TIMEOUT_S = 15.0
MAX_FILE_BYTES = 64 * 1024

# What this program asks for; an organization may enforce scopes or not.
SCOPES = ("conversations", "notifications", "users:readonly")

_Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=16 * 1024, pattern=r"^[\x21-\x7e]+$")]


class LoginError(Exception):
    """There is no login (any more); the message says what to do."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """`expires_at`: seconds since the Unix epoch, None when it is not known."""

    access_token: _Secret
    refresh_token: _Secret | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        return "<login>"


class _Granted(msgspec.Struct, frozen=True):
    """The answer of the token endpoint (RFC 6749, 5.1)."""

    access_token: _Secret
    refresh_token: _Secret | None = None
    expires_in: float | None = None


class _Denied(msgspec.Struct, frozen=True):
    """Its refusal (RFC 6749, 5.2)."""

    error: str = ""
    error_description: str | None = None
    description: str | None = None


class OAuthClient:
    """The OAuth client that the organization's administrator made for this program."""

    def __init__(self, login_url: str, client_id: str, client_secret: str | None = None) -> None:
        self._login_url = login_url.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._exchange = Exchange(login_url)

    def authorize_url(self, *, redirect_uri: str, verifier: str, state: str) -> str:
        """Where the user's browser is sent to."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(SCOPES),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._login_url}/oauth/authorize?{urlencode(query)}"

    def redeem(self, code: str, *, redirect_uri: str, verifier: str, wanted: Wanted) -> Login:
        """Exchange the code of the redirect for a login. LoginError, ExchangeError."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        return self._ask(form, wanted)

    def renew(self, refresh_token: str, wanted: Wanted) -> Login:
        """Exchange a refresh token, which may be used up by it. LoginError, ExchangeError."""
        renewed = self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token}, wanted)
        if renewed.refresh_token is None:
            renewed = msgspec.structs.replace(renewed, refresh_token=refresh_token)
        return renewed

    def _ask(self, form: dict[str, str], wanted: Wanted) -> Login:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._client_secret:
            pair = f"{self._client_id}:{self._client_secret}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        else:
            form = {**form, "client_id": self._client_id}
        answer = self._exchange.send("POST", "/oauth/token", headers, urlencode(form).encode(), wanted)
        if answer.status in (400, 401, 403):
            raise LoginError(f"Genesys Cloud refused the login{_denial(answer)}")
        try:
            granted = msgspec.json.decode(answer.body, type=_Granted) if answer.status == 200 else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            granted = None
        if granted is None:
            raise ExchangeError(f"{self._exchange.host} answered {answer.status} instead of a token")
        expires_at = None if granted.expires_in is None else time.time() + granted.expires_in
        return Login(access_token=granted.access_token, refresh_token=granted.refresh_token, expires_at=expires_at)


def _denial(answer: Answer) -> str:
    """Genesys Cloud's own words; they hold no secret."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        denied = msgspec.json.decode(answer.body, type=_Denied)
        words = [denied.error, denied.error_description or denied.description or ""]
        return ": " + ", ".join(word for word in words if word) if any(words) else ""
    return ""


def new_verifier() -> str:
    """Return a PKCE code verifier (RFC 7636, 4.1): 43 to 128 unreserved characters."""
    return secrets.token_urlsafe(64)


# --- files -----------------------------------------------------------------------------------------------------------


def read_secret(path: Path) -> str:
    """Return the one line of a secret's file. LoginError says what is wrong with it."""
    return _read(path).strip()


def read_supplied(path: Path) -> Login:
    """Read a file that holds an access token and nothing else."""
    return _checked(path, {"access_token": read_secret(path)})


def read_stored(path: Path) -> Login:
    """Read what `write_stored` wrote."""
    try:
        fields = msgspec.json.decode(_read(path))
    except msgspec.DecodeError:
        raise LoginError(f"{path}: is damaged; log in again") from None
    return _checked(path, fields)


def write_stored(path: Path, login: Login) -> None:
    """Replace the file at once, readable only by its owner. LoginError when it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(login))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LoginError(f"{path}: the login cannot be kept: {error.strerror}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode()
    except UnicodeDecodeError:
        raise LoginError(f"{path}: is not text") from None
    except (OSError, ValueError) as error:
        raise LoginError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
        raise LoginError(f"{path}: everybody on this machine can read or change it; type: chmod 600 {path}")
    if len(data) > MAX_FILE_BYTES:
        raise LoginError(f"{path}: is longer than {MAX_FILE_BYTES} bytes")
    return text


def _checked(path: Path, fields: object) -> Login:
    try:
        return msgspec.convert(fields, Login)
    except msgspec.ValidationError:
        raise LoginError(f"{path}: holds no token") from None


# --- the tokens in use -----------------------------------------------------------------------------------------------


class Tokens:
    """The access token in use, for any thread.

    A renewal has a thread and a time of its own: a refresh token is used up by being sent, so a press that has no time
    left must not make its answer get lost.
    """

    def __init__(
        self,
        read: Callable[[], Login],
        *,
        client: OAuthClient | None = None,
        write: Callable[[Login], None] | None = None,
    ) -> None:
        """LoginError when there is none to begin with."""
        self._read = read
        self._client = client
        self._write = write
        self._changed = threading.Condition()
        self._login = read()
        self._renewing = False
        self._problem: Exception | None = None
        self._used_up: set[str] = set()

    @property
    def access_token(self) -> str:
        return self._login.access_token

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends so soon, and can be renewed."""
        login = self._login
        return bool(self._refreshable(login) and login.expires_at and login.expires_at - time.time() < seconds)

    def renew(self, refused: str, wanted: Wanted) -> None:
        """Put another one in the place of `refused`, unless that was done already. LoginError, ExchangeError."""
        with self._changed:
            if self._login.access_token != refused:
                return
            if not self._renewing:
                self._renewing, self._problem = True, None
                threading.Thread(target=self._renew, args=(refused,), name="genesys-login", daemon=True).start()
            if not self._changed.wait_for(lambda: not self._renewing, max(0.0, wanted())):
                raise ExchangeError("that takes too long")
            if self._problem:
                raise self._problem

    def _renew(self, refused: str) -> None:
        login, problem = None, None
        try:
            login = self._another(refused)
        except Exception as error:
            problem = error
        with self._changed:
            self._login = login or self._login
            self._problem = problem
            self._renewing = False
            self._changed.notify_all()

    def _another(self, refused: str) -> Login:
        with contextlib.suppress(LoginError):
            on_disk = self._read()
            if on_disk.access_token != refused:
                return on_disk
        client, token = self._client, self._refreshable(self._login)
        if client is None or token is None:
            raise LoginError("Genesys Cloud does not accept the token any more, and there is no refresh token")
        try:
            deadline = time.monotonic() + RENEW_TIMEOUT_S
            renewed = client.renew(token, lambda: deadline - time.monotonic())
        except LoginError:
            self._used_up.add(token)  # asking once is enough
            raise
        if self._write:
            try:
                self._write(renewed)
            except LoginError as error:
                _log.error("genesys cloud: %s; it is good until this program ends", error)
        return renewed

    def _refreshable(self, login: Login) -> str | None:
        """Its refresh token, where that is of use."""
        token = login.refresh_token
        return token if self._client and token not in self._used_up else None
