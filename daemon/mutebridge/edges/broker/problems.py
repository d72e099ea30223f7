"""What can be wrong with the broker, in words for the person who must mend it."""

import enum
import socket
import ssl

import msgspec

from mutebridge.edges.broker.settings import BrokerSettings

# MQTT 5 reason codes (2.4).
UNSUPPORTED_PROTOCOL = 0x84
_CLIENT_ID_INVALID = 0x85
_BAD_PASSWORD = 0x86
_NOT_AUTHORISED = 0x87

# Verification results of OpenSSL (x509_vfy.h).
_CERTIFICATE_PROBLEMS = {
    9: "is not valid yet: is the clock of this machine right?",
    10: "has expired: renew it on the broker",
    **dict.fromkeys(
        (2, 18, 19, 20, 21), "comes from an unknown authority: name the certificate of that authority in tls.ca_file"
    ),
    **dict.fromkeys((62, 64), "is for another host than {host!r}: set host to the name in it"),
}


class ProblemKind(enum.Enum):
    """What is wrong; the first word of a diagnosis."""

    UNKNOWN_HOST = "unknown_host"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    PASSWORD_UNREADABLE = "password_unreadable"  # noqa: S105 - not a password
    NOT_AUTHORISED = "not_authorised"
    REFUSED = "refused"  # by the broker, for another reason that it named
    PROTOCOL = "protocol"
    SILENT = "silent"  # accepts, does not answer
    SUBSCRIPTION_REFUSED = "subscription_refused"
    CLIENT_ID_TAKEN = "client_id_taken"
    CLOSED = "closed"  # by the broker, or the network failed
    FROZEN = "frozen"  # it answered before, does no longer
    BUG = "bug"  # a callback raised


class Problem(msgspec.Struct, frozen=True):
    """Trouble with the broker: `message` says where, what and how to mend it, without secrets.

    `cause` is the exception behind a BUG.
    """

    kind: ProblemKind
    message: str
    cause: BaseException | None = None


class CannotConnectError(Exception):
    """No connection came about, for the reason in `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class CallbackError(Exception):
    """A callback raised, which is a bug; its exception is the cause."""


def explain_refusal(code: int, said: str, client_id: str, settings: BrokerSettings) -> Problem:
    """Return what a CONNACK means: `code` is an MQTT 5 reason code, `said` the broker's words."""
    if code in (_BAD_PASSWORD, _NOT_AUTHORISED):
        who = f"user {settings.username!r}" if settings.username else "a client without user name"
        message = f"refuses {who} ({said}): check username and password, and the broker's access list"
        return Problem(ProblemKind.NOT_AUTHORISED, message)
    if code == UNSUPPORTED_PROTOCOL:
        message = f"refuses this version of MQTT ({said}): set protocol to auto, or to the version that it speaks"
        return Problem(ProblemKind.PROTOCOL, message)
    if code == _CLIENT_ID_INVALID:
        return Problem(ProblemKind.REFUSED, f"refuses the client id {client_id!r} ({said}): set another client_id")
    return Problem(ProblemKind.REFUSED, f"refuses the connection ({said})")


def explain_connect_error(error: OSError | UnicodeError, settings: BrokerSettings, timeout_s: float) -> Problem:
    """Return what an exception from the look-up, the TCP connection or the TLS handshake means."""
    host, port = settings.host, settings.effective_port
    if isinstance(error, ssl.SSLError):
        return Problem(ProblemKind.TLS, explain_tls_error(error, settings))
    if isinstance(error, (socket.gaierror, UnicodeError)):
        why = error.strerror if isinstance(error, OSError) else "not a host name"
        return Problem(ProblemKind.UNKNOWN_HOST, f"cannot find the host {host!r} ({why}): check host")
    if isinstance(error, ConnectionRefusedError):
        message = f"nothing listens on port {port} of {host}: is the broker running, and is the port right?"
        return Problem(ProblemKind.CONNECTION_REFUSED, message)
    if isinstance(error, TimeoutError) and "handshake" in str(error):
        message = f"accepts the connection but does not answer the TLS handshake within {timeout_s:g} s"
        return Problem(ProblemKind.SILENT, f"{message}: does port {port} speak TLS?")
    if isinstance(error, ConnectionError) and settings.tls is not None:
        return Problem(ProblemKind.TLS, f"TLS: hung up during the handshake: does port {port} speak TLS?")
    why = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else error.strerror
    return Problem(ProblemKind.UNREACHABLE, f"cannot reach {host} port {port} ({why}): check host and the network")


def explain_tls_error(error: ssl.SSLError, settings: BrokerSettings) -> str:
    """Return what went wrong with TLS, told apart as far as OpenSSL tells."""
    if isinstance(error, ssl.SSLCertVerificationError):
        unknown = f"does not verify: {error.verify_message}"
        why = _CERTIFICATE_PROBLEMS.get(error.verify_code, unknown).format(host=settings.host)
        return f"TLS: the broker's certificate {why}"
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG") or "EOF" in reason:
        return f"TLS: port {settings.effective_port} does not seem to speak TLS ({reason}): is the port right?"
    if "CERT" in reason or reason.endswith(("HANDSHAKE_FAILURE", "UNKNOWN_CA")):
        has_one = settings.tls is not None and settings.tls.cert_file is not None
        wish = "does not accept our client certificate" if has_one else "wants a client certificate"
        return f"TLS: the broker {wish} ({reason}): set tls.cert_file and tls.key_file to one that it accepts"
    return f"TLS: {reason}"
