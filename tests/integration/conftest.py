"""Brokers and faulty networks for every integration test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.certificates import Certificates
from tests.integration.mosquitto import EXECUTABLE, Mosquitto
from tests.integration.proxy import Proxy


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Return a function like the class Mosquitto, without the directory; what it made ends with the test."""
    if EXECUTABLE is None:
        pytest.skip("mosquitto is not installed")
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Mosquitto(tmp_path, *arguments, **options))


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A mosquitto that lets everyone in."""
    return make_mosquitto()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], Proxy]]:
    """Return a function: target port -> Proxy; what it made ends with the test."""
    with ExitStack() as stack:
        yield lambda target_port: stack.enter_context(Proxy(target_port))


@pytest.fixture
def proxy(mosquitto: Mosquitto, make_proxy: Callable[[int], Proxy]) -> Proxy:
    """A proxy in front of `mosquitto`."""
    return make_proxy(mosquitto.port)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of a private authority, good and bad, for this session."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
