"""What listens at an address of this machine."""

import enum
import socket

import msgspec

LOOPBACK = "127.0.0.1"
_PROBE_TIMEOUT_S = 1.0


class LocalBrokerError(Exception):
    """No broker can be brought up; the message is for the person: what is wrong, what to do."""


class LocalBroker(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker listens. `what` names it for people; user and password are its owner's, who may do everything."""

    what: str
    host: str
    port: int
    websocket_port: int | None = None
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Without the password, which belongs in no log."""
        return f"<{self.what} at {self.host}:{self.port}>"


class Listening(enum.Enum):
    """What answers at an address."""

    NOTHING = "nothing listens"
    OPEN_BROKER = "an MQTT broker"
    CLOSED_BROKER = "an MQTT broker that asks for a password"
    SOMETHING_ELSE = "something that is no MQTT broker"


_DISCONNECT = b"\xe0\x00"


def probe(
    host: str, port: int, timeout_s: float = _PROBE_TIMEOUT_S, *, user: str | None = None, password: str = ""
) -> Listening:
    """Connect as an MQTT client, an anonymous one unless there is a user, to see what listens at an address."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            return _probe(connection, _connect(user, password))
    except OSError:
        return Listening.NOTHING


def _connect(user: str | None, password: str) -> bytes:
    """A CONNECT of MQTT 3.1.1: clean session, keepalive 10 s, no client id."""
    flags, fields = (0x02, [""]) if user is None else (0xC2, ["", user, password])
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x0a"
    body += b"".join(len(field.encode()).to_bytes(2, "big") + field.encode() for field in fields)
    rest, length = divmod(len(body), 128)
    return b"\x10" + (bytes([length | 0x80, rest]) if rest else bytes([length])) + body


def _probe(connection: socket.socket, connect: bytes) -> Listening:
    answer = b""
    try:
        connection.sendall(connect)
        while len(answer) < 4 and (more := connection.recv(4 - len(answer))):
            answer += more
        if answer == b"\x20\x02\x00\x00":
            connection.sendall(_DISCONNECT)
    except OSError:  # it hung up, or says nothing
        pass
    if len(answer) < 4 or answer[:2] != b"\x20\x02":
        return Listening.SOMETHING_ELSE
    return Listening.OPEN_BROKER if answer[3] == 0 else Listening.CLOSED_BROKER
