"""What a person can set about the broker, and what a client says of itself there."""

import ipaddress
from typing import Annotated, Any, Literal

import msgspec

MAX_PASSWORD_BYTES = 65535  # MQTT has two bytes for its length


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tls:` — TLS 1.2 or newer; certificate and host name are always verified. Files are read at each connect.

    ca_file    PEM file of the authorities to trust; default: those of the system
    cert_file  PEM file of the client certificate, if the broker asks for one; default: none
    key_file   PEM file of its private key, without passphrase; default: in cert_file
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file without cert_file: name the client certificate too")


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`broker:` — how to reach the broker. ValueError where the keys contradict each other.

    host                 name or address; default localhost
    port                 default 1883, with TLS 8883
    client_id            default: chosen by the program, one per station
    keepalive_s          a broker that is silent this long is asked for a sign of life; 2 to 3600, default 10
    protocol             "auto" (MQTT 5, else 3.1.1), "5" or "3.1.1"; default auto
    username             default: none
    password             in clear in this file, so better one of the next two; default: none
    password_file        file that holds the password, read at each connect; default: none
    password_credential  name of a systemd credential ($CREDENTIALS_DIRECTORY) that holds it; default: none
    tls                  TLS settings, `{}` for TLS with the system's authorities; default: no TLS
    allow_plaintext      allow a host other than this machine without TLS; default false
    retry_first_s        the first attempt to reconnect comes within this time; default 1
    retry_max_s          the time doubles up to this; default 60
    """

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = "localhost"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    keepalive_s: Annotated[int, msgspec.Meta(ge=2, le=3600)] = 10
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    password: str | None = None
    password_file: str | None = None
    password_credential: str | None = None
    tls: TlsSettings | None = None
    allow_plaintext: bool = False
    retry_first_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0
    retry_max_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0

    def __post_init__(self) -> None:
        sources = [key for key in ("password", "password_file", "password_credential") if getattr(self, key)]
        if len(sources) > 1:
            raise ValueError(f"{' and '.join(sources)}: only one of them can give the password")
        if sources and not self.username:
            raise ValueError(f"{sources[0]} without username: a broker takes a password only with a user name")
        for key in ("client_id", "username"):
            if not (getattr(self, key) or "").isprintable():
                raise ValueError(f"{key}: has a character that cannot be printed, which MQTT does not allow")
        if len((self.password or "").encode()) > MAX_PASSWORD_BYTES:
            raise ValueError(f"password: longer than {MAX_PASSWORD_BYTES} bytes, the most that MQTT can carry")
        if self.password_credential and "/" in self.password_credential:
            raise ValueError("password_credential: a name without '/'; use password_file for a path")
        if self.tls is None and not self.allow_plaintext and not is_this_machine(self.host):
            raise ValueError(
                f"host {self.host!r} is another machine and tls is not set: anyone on the way could read the password"
                " and press the button. Set tls, or allow_plaintext: true if the network is trusted"
            )

    @property
    def effective_port(self) -> int:
        return self.port or (1883 if self.tls is None else 8883)

    @property
    def url(self) -> str:
        return f"{'mqtt' if self.tls is None else 'mqtts'}://{self.host}:{self.effective_port}"

    def __repr__(self) -> str:
        return f"BrokerSettings({self.url}, client_id={self.client_id!r}, username={self.username!r})"

    def __rich_repr__(self) -> Any:
        yield repr(self)


class Retained(msgspec.Struct, frozen=True):
    """A message that is published retained at QoS 1: a will, a birth, a farewell."""

    topic: str
    payload: bytes


def is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "ip6-localhost")


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of itself at each connect: `subscriptions` are pairs of topic filter and QoS."""

    client_id: str
    will: Retained
    births: tuple[Retained, ...] = ()
    subscriptions: tuple[tuple[str, int], ...] = ()
