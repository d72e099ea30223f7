"""What a person can set about the embedded broker."""

from pathlib import Path
from typing import Annotated

import msgspec

from mutebridge.core.web_page import origin_of
from mutebridge.edges.local_broker.credentials import default_file


class EmbeddedBrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`embedded_broker:` — who reaches the broker that `run --embedded-broker` brings along. ValueError for no origin.

    websocket_port    for browser pages; 0: none; default 9001
    origins           pages of these origins may use any credential; default: each only one that was given to its origin
    credentials_file  the controllers that may connect; default: what `default_file` says
    """

    websocket_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9001
    origins: tuple[str, ...] = ()
    credentials_file: Annotated[str, msgspec.Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        for origin in self.origins:
            if (proper := origin_of(origin)) != origin.rstrip("/").lower():
                raise ValueError(f"origins: {origin!r}: only a page's scheme, host and unusual port, as in {proper}")
        msgspec.structs.force_setattr(self, "origins", tuple(map(origin_of, self.origins)))

    @property
    def file(self) -> Path:
        return Path(self.credentials_file) if self.credentials_file else default_file()
