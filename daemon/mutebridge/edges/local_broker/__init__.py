"""An MQTT broker on this machine's loopback: the one that listens there, or one brought up for as long as it is needed.

In this order: a broker that already listens; a child process of mosquitto (Debian's broker, MQTT 5 with everything);
amqtt inside this process (pure Python, MQTT 3.1.1 only, an optional dependency of this project). Those brought up here
listen on loopback only. The TCP port of one for a demonstration lets anyone on this machine in, as Debian's mosquitto
does by default. That of the embedded broker asks for user with password; so does every WebSocket port, which also looks
where the page comes from, since any web page that a person visits can reach a port on loopback.
"""

import contextlib
import importlib.util
import logging
import secrets
from collections.abc import Iterator

from mutebridge.edges.local_broker.credentials import Credential, CredentialsError, CredentialsFile
from mutebridge.edges.local_broker.doorkeeper import Doorkeeper
from mutebridge.edges.local_broker.listening import LOOPBACK, Listening, LocalBroker, LocalBrokerError, probe
from mutebridge.edges.local_broker.settings import EmbeddedBrokerSettings

__all__ = [
    "Credential",
    "CredentialsError",
    "CredentialsFile",
    "EmbeddedBrokerSettings",
    "Listening",
    "LocalBroker",
    "LocalBrokerError",
    "bring_up",
    "embedded_broker",
    "probe",
]

DEFAULT_PORT = 1883

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def bring_up(
    *, host: str = LOOPBACK, port: int = DEFAULT_PORT, prefer_existing: bool = True, prefer_mosquitto: bool = True
) -> Iterator[LocalBroker]:
    """Yield a broker that lets anonymous clients in: the one at `host:port`, else one of our own on a free port.

    LocalBrokerError when there is none, while neither mosquitto nor amqtt is installed.
    """
    if prefer_existing and (found := probe(host, port)) is not Listening.NOTHING:
        if found is Listening.OPEN_BROKER:
            yield LocalBroker(what="the broker that already listens", host=host, port=port)
            return
        _log.info("%s:%d is %s; a broker of our own takes another port", host, port, found.value)
    from mutebridge.edges.local_broker import mosquitto  # noqa: PLC0415 - the daemon does without

    program = mosquitto.find() if prefer_mosquitto else None
    with (
        mosquitto.child(program)
        if program
        else _inside(
            LocalBroker(what="amqtt, inside this process", host=LOOPBACK, port=0), Doorkeeper(None, anonymous=True)
        ) as broker
    ):
        yield broker


@contextlib.contextmanager
def embedded_broker(
    settings: EmbeddedBrokerSettings,
    *,
    port: int = DEFAULT_PORT,
    user: str,
    any_websocket_port: bool = False,
    anonymous: bool = False,
) -> Iterator[LocalBroker]:
    """Yield amqtt inside this process, on loopback; port 0 is any free one.

    `user` is who may do everything, with the password that is made up for it; controllers are those of the settings'
    file. `any_websocket_port`: a free one. `anonymous`: the TCP port lets in who gives no user. LocalBrokerError when
    amqtt is not installed, a port is taken, or the file cannot be read.
    """
    websocket_port = 0 if any_websocket_port else settings.websocket_port or None
    for wanted in (port, websocket_port):
        if wanted and (found := probe(LOOPBACK, wanted)) is not Listening.NOTHING:
            raise LocalBrokerError(
                f"the embedded broker needs {LOOPBACK}:{wanted}, where {found.value} listens already: "
                "stop that, or use it, without --embedded-broker, if it is a broker"
            )
    credentials = CredentialsFile(settings.file)
    try:
        credentials.all()
    except CredentialsError as error:
        raise LocalBrokerError(
            f"the embedded broker cannot tell its controllers: {error}. embedded_broker.credentials_file names another"
        ) from None
    password = secrets.token_urlsafe(18)
    doorkeeper = Doorkeeper(
        credentials, own_user=user, own_password=password, origins=set(settings.origins), anonymous=anonymous
    )
    broker = LocalBroker(
        what="the embedded broker (amqtt)",
        host=LOOPBACK,
        port=port,
        websocket_port=websocket_port,
        user=user,
        password=password,
    )
    with _inside(broker, doorkeeper) as listening:
        yield listening


def _inside(wanted: LocalBroker, doorkeeper: Doorkeeper) -> contextlib.AbstractContextManager[LocalBroker]:
    if importlib.util.find_spec("amqtt") is None:
        raise LocalBrokerError(
            "a broker inside this process needs the package amqtt, which the service does without. "
            "Type: pip install 'mutebridge[demo]', or where it is installed as a service: sudo python3 daemon install "
            "--with demo    (or have a broker: sudo apt install mosquitto)"
        )
    from mutebridge.edges.local_broker import inside  # noqa: PLC0415 - optional, and 200 ms to import

    return inside.running(wanted, doorkeeper)
