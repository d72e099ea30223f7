"""The TLS side of a connection."""

import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from mutebridge.edges.broker.problems import CannotConnectError, Problem, ProblemKind
from mutebridge.edges.broker.settings import TlsSettings

_T = TypeVar("_T")


class TlsSocket(ssl.SSLSocket):
    """Lets one thread read while another writes, which OpenSSL does not; remembers why TLS failed."""

    io_lock: threading.Lock
    tls_error: ssl.SSLError | None

    def __new__(cls, *arguments: Any, **options: Any) -> "TlsSocket":
        # ssl makes its sockets without calling __init__.
        made = super().__new__(cls, *arguments, **options)
        made.io_lock = threading.Lock()
        made.tls_error = None
        return made

    def do_handshake(self, block: bool = False) -> None:
        # Nobody else closes it when this fails.
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return self._locked(super().recv, buflen, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        return self._locked(super().send, data, flags)

    def pending(self) -> int:
        return self._locked(super().pending)

    def _locked(self, method: Callable[..., _T], *arguments: object) -> _T:
        with self.io_lock:
            try:
                return method(*arguments)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self.tls_error = error
                raise


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return a context of `TlsSocket`s, from the files as they are now; CannotConnectError names a bad one."""
    at = f"ca_file {tls.ca_file}"
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = TlsSocket
        if tls.cert_file:
            at = f"cert_file {tls.cert_file}" + (f", key_file {tls.key_file}" if tls.key_file else "")
            # An empty passphrase fails; without one OpenSSL would ask on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        named = f"not usable ({error.reason or error})" if isinstance(error, ssl.SSLError) else None
        why = named or getattr(error, "strerror", None) or str(error)
        raise CannotConnectError(Problem(ProblemKind.TLS, f"tls: {at}: {why}")) from None
    return context
