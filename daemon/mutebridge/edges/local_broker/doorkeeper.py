"""Who gets into the embedded broker, through which door, and what they may do inside."""

import logging
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from mutebridge.core import password_hash
from mutebridge.core.access import EVERYTHING, Grant, may_read, may_write
from mutebridge.core.web_page import is_own_host
from mutebridge.edges.local_broker.credentials import Credential, CredentialsError, CredentialsFile

_log = logging.getLogger(__name__)


class Visitor(NamedTuple):
    """What a CONNECT says. `origin` is that of the page which it comes from, None for other programs."""

    user: str | None
    password: str | None
    origin: str | None = None
    by_websocket: bool = False


class Doorkeeper:
    """Knows the user of the program that runs the broker, who may do everything, and the controllers of a file.

    `anonymous` lets who gives no user in through the TCP port, too, to do everything. A WebSocket always asks for user
    and password, and lets a page in only with a credential that was given to its origin, unless `origins` has it.
    """

    def __init__(
        self,
        credentials: CredentialsFile | None,
        *,
        own_user: str | None = None,
        own_password: str | None = None,
        origins: Set[str] = frozenset(),
        anonymous: bool = False,
    ) -> None:
        self._credentials = credentials
        self._own = (own_user, own_password)
        self._origins = origins
        self._anonymous = anonymous
        self._last_problem = ""

    # --- at the door

    def refuses_page(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Return why a request with these Host and Origin headers gets no WebSocket; None: it does."""
        if not is_own_host(hosts):
            return "this is a broker of this machine only, asked for by another name"
        if origins and (len(origins) > 1 or not self._knows_origin(origins[0])):
            return "no controller is paired with a page of this origin"
        return None

    def admits(self, visitor: Visitor) -> bool:
        """Whether user and password are right, and the page may use them."""
        if visitor.user is None:
            return self._anonymous and not visitor.by_websocket
        if visitor.password is None:
            return False
        own_user, own_password = self._own
        if own_password is not None and visitor.user == own_user:
            return visitor.origin is None and password_hash.same(visitor.password, own_password)
        known = self._controllers().get(visitor.user)
        if known is None or not password_hash.fits(visitor.password, known.password_hash):
            return False
        return visitor.origin is None or visitor.origin in self._origins or visitor.origin in known.origins

    def stamp(self, user: str | None) -> str | None:
        """Return what changes when a user gets another password, or is no longer known."""
        known = self._controllers().get(user or "")
        return known.password_hash if known else None

    # --- inside

    def may_write(self, user: str | None, topic: str) -> bool:
        return may_write(self._grants(user), topic)

    def may_read(self, user: str | None, topic_filter: str) -> bool:
        return may_read(self._grants(user), topic_filter)

    def _grants(self, user: str | None) -> tuple[Grant, ...]:
        if (user is None and self._anonymous) or (user is not None and user == self._own[0]):
            return EVERYTHING
        known = self._controllers().get(user or "")
        return known.grants() if known else ()

    def _knows_origin(self, origin: str) -> bool:
        return origin in self._origins or any(origin in known.origins for known in self._controllers().values())

    def _controllers(self) -> Mapping[str, Credential]:
        """What the file says now; a file that cannot be used opens to nobody."""
        if self._credentials is None:
            return {}
        try:
            known = self._credentials.all()
        except CredentialsError as error:
            if str(error) != self._last_problem:
                self._last_problem = str(error)
                _log.error("no controller gets in: %s", error)
            return {}
        self._last_problem = ""
        return known
