"""A cached thing is made once for the same inputs, again for others, and never half."""

import os
from pathlib import Path

import pytest
from tests.lab import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SYSTEM_CACHE", tmp_path / "system")


def fill(folder: Path) -> None:
    (folder / "content").write_text("made")


def never(folder: Path) -> None:
    pytest.fail(f"{folder} is made again")


def test_it_is_made_once() -> None:
    place = cache.made("stage", "key", fill)
    assert (place / "content").read_text() == "made"
    assert cache.made("stage", "key", never) == place
    assert cache.find("stage", "other") is None


def test_a_failure_leaves_nothing() -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        cache.made("stage", "key", fail)
    assert cache.find("stage", "key") is None
    assert [entry.name for entry in cache.cache_dir().iterdir()] == ["lock"]


def test_a_user_finds_what_root_made_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "is_root", lambda: False)
    (cache.SYSTEM_CACHE / "stage-key").mkdir(parents=True)
    assert cache.made("stage", "key", never) == cache.SYSTEM_CACHE / "stage-key"


def test_the_digest_follows_each_input(tmp_path: Path) -> None:
    script = tmp_path / "folder/script"
    script.parent.mkdir()
    script.write_text("one")
    first = cache.digest("stage", script.parent)
    assert cache.digest("stage", script.parent) == first
    assert cache.digest("other", script.parent) != first
    script.chmod(0o755)
    second = cache.digest("stage", script.parent)
    script.write_text("two")
    assert len({first, second, cache.digest("stage", script.parent)}) == 3


def test_what_is_not_used_for_days_makes_room_for_what_is_new() -> None:
    long_ago = 1_000_000_000
    used = cache.made("stage", "used", fill)
    unused = cache.made("stage", "unused", fill)
    for place in (used, unused):
        os.utime(place, (long_ago, long_ago))
    cache.find("stage", "used")
    cache.made("stage", "new", fill)
    assert used.exists()
    assert not unused.exists()
