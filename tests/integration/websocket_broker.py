"""A mosquitto that browsers reach too: a second listener, for WebSockets."""

from pathlib import Path
from typing import Self

from tests.integration.mosquitto import OPEN, Mosquitto, free_port


class WebSocketBroker(Mosquitto):
    """`port` is for programs, `websocket_port` for pages; `conf` is for both."""

    def __init__(self, directory: Path, conf: str = OPEN) -> None:
        self.websocket_port = free_port()
        super().__init__(directory, f"{conf}\nlistener {self.websocket_port} 127.0.0.1\nprotocol websockets")

    def __enter__(self) -> Self:
        return self
