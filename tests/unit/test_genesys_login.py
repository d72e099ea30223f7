"""Regions, the files that hold a login, what a refusal is called."""

import stat
from pathlib import Path

import pytest

from mutebridge.controller.genesys_cloud import regions
from mutebridge.controller.genesys_cloud.api import ApiError, RateLimitedError
from mutebridge.controller.genesys_cloud.exchange import NotSentError, UnansweredError
from mutebridge.controller.genesys_cloud.login import (
    Login,
    LoginError,
    Tokens,
    read_stored,
    read_supplied,
    write_stored,
)
from mutebridge.controller.genesys_cloud.refusals import missing, refusal
from mutebridge.core.contract import CommandError


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("us-east-1", "mypurecloud.com"),
        ("EU-Central-1 ", "mypurecloud.de"),
        ("mypurecloud.ie", "mypurecloud.ie"),
        ("usw2.pure.cloud", "usw2.pure.cloud"),
        ("https://apps.euw2.pure.cloud/directory/", "euw2.pure.cloud"),
        ("api.mypurecloud.com.au", "mypurecloud.com.au"),
        ("login.use2.us-gov-pure.cloud", "use2.us-gov-pure.cloud"),
    ],
)
def test_a_region_by_name_domain_or_address(given: str, domain: str) -> None:
    assert regions.domain(given) == domain


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("us-wset-2", "did you mean us-west-2?"),
        ("mypurecloud.con", "did you mean mypurecloud.com?"),
        ("mypurecloud.com.evil.example", "is none of Genesys Cloud's"),
        ("evil.example/mypurecloud.com", "is none of Genesys Cloud's"),
        ("", "one of us-east-1, us-east-2"),
    ],
)
def test_a_host_that_only_looks_like_one_gets_no_login(given: str, told: str) -> None:
    with pytest.raises(ValueError, match="region") as refused:
        regions.domain(given)
    assert told in str(refused.value)


# --- files


def test_a_login_is_kept_as_it_was_and_for_its_owner_only(tmp_path: Path) -> None:
    login = Login(access_token="an-access-token", refresh_token="a-refresh-token", expires_at=5.5)
    file = tmp_path / "new" / "login.json"
    write_stored(file, login)
    write_stored(file, login)
    assert read_stored(file) == login
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["login.json"]
    assert "token" not in repr(login)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o660])
def test_a_login_that_others_can_read_or_change_is_not_used(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("a-token")
    file.chmod(mode)
    with pytest.raises(LoginError, match=f"chmod 600 {file}"):
        read_supplied(file)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
def test_a_systemd_credential_is_used(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("a-token\n")
    file.chmod(mode)
    assert read_supplied(file) == Login(access_token="a-token")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no token"),
        (b"two words", "holds no token"),
        (b"line\nbreak", "holds no token"),
        (b"\xff", "is not text"),
        (b"x" * 70_000, "is longer than"),
    ],
)
def test_a_supplied_token_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_bytes(content)
    with pytest.raises(LoginError, match=told) as refused:
        read_supplied(file)
    assert "two words" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "is damaged; log in again"), ("{}", "holds no token"), ('{"access_token": 5}', "holds no token")],
)
def test_a_stored_login_that_is_none(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "login.json"
    file.touch(0o600)
    file.write_text(content)
    with pytest.raises(LoginError, match=told):
        read_stored(file)


def test_a_login_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LoginError, match="the login cannot be kept: "):
        write_stored(tmp_path / "file" / "login.json", Login(access_token="t"))


def test_without_a_refresh_token_only_the_file_can_change() -> None:
    logins = [Login(access_token="first"), Login(access_token="first"), Login(access_token="second")]
    tokens = Tokens(lambda: logins.pop(0))
    assert not tokens.ends_within(1e9)
    with pytest.raises(LoginError, match="there is no refresh token"):
        tokens.renew("first", lambda: 20)
    tokens.renew("first", lambda: 20)
    assert tokens.access_token == "second"
    tokens.renew("first", lambda: 20)  # somebody was quicker
    assert tokens.access_token == "second"


# --- refusals


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        (NotSentError("no time", too_late=True), CommandError.EXPIRED, "nothing was done: no time"),
        (NotSentError("cannot reach x"), CommandError.FAILED, "cannot reach x"),
        (UnansweredError("no answer"), CommandError.FAILED, "no answer"),
        (RateLimitedError(7.2), CommandError.FAILED, "it asks for 7 s of patience"),
        (LoginError("it ended"), CommandError.NOT_ALLOWED, "it ended; log in again with: mutebridge"),
        (ApiError(401), CommandError.NOT_ALLOWED, "log in again with: mutebridge"),
        (ApiError(403, "not.authorized", "No."), CommandError.NOT_ALLOWED, "somebody else owns this call"),
        (ApiError(403, "missing.permissions", "x", ("a:b:c",)), CommandError.MISSING_SCOPE, "permission a:b:c"),
        (ApiError(403, "", "scope", ("conversations",)), CommandError.MISSING_SCOPE, "scope conversations"),
        (ApiError(403, "missing.any.permissions"), CommandError.MISSING_SCOPE, "needed are the scopes conversations, "),
        (ApiError(404), CommandError.NOT_CONNECTED, "does not know this call any more"),
        (ApiError(400, "bad.request", "What?"), CommandError.FAILED, "answered 400 (bad.request): What?"),
        (ApiError(503), CommandError.FAILED, "Genesys Cloud answered 503"),
    ],
)
def test_what_a_failure_is_called_at_the_button(trouble: Exception, error: CommandError, words: str) -> None:
    refused = refusal(trouble)
    assert refused.error is error
    assert words in refused.detail


def test_a_bug_is_no_refusal() -> None:
    with pytest.raises(KeyError):
        refusal(KeyError("x"))


def test_a_missing_scope_is_named() -> None:
    assert missing(ApiError(403, "missing.scopes", "The token lacks a scope", ("conversations",))) == (
        "Genesys Cloud refuses: the OAuth client lacks the scope conversations"
    )
