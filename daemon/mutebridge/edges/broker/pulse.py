"""When to ask the broker for a sign of life, when to give it up.

A frozen broker, whose kernel goes on acknowledging, shows only by the missing answer to a ping. While the connection is
in use, and for three keep-alives after, silence is answered by a ping after `keepalive_s` - 1 s, which must be answered
within 3 s: the broker is lost at most `keepalive_s` + 2 s after its last word. A publish of ours is followed by a ping
as well, so that a press finds a dead broker at once. At rest a ping goes out every `keepalive_s` and its answer is
looked for when the next one is due, so that an answer need not wake anybody.

Pure: all times are moments in seconds on one clock.
"""

import math

PING_TIMEOUT_S = 3.0
PROBE_INTERVAL_S = 1.0  # a ping after a publish, at most this often
REST_AFTER_KEEPALIVES = 3


class Pulse:
    """The supervision of one connection, from `now` on."""

    def __init__(self, keepalive_s: float, now: float) -> None:
        self.keepalive_s = keepalive_s
        self.heard_at = now
        self.asked_at: float | None = None  # an answer is outstanding
        self.patient = False  # ... and is looked for when the next ping is due
        self._sent_at = self._used_at = now
        self._probed_at = -math.inf

    def deadline(self) -> float:
        """Return when to look for the outstanding answer, or else to ask."""
        if self.asked_at is not None:
            return self.asked_at + (self.keepalive_s if self.patient else PING_TIMEOUT_S)
        due_at = min(self._sent_at, self.heard_at) + self.keepalive_s
        return due_at if self._at_rest(due_at) else due_at - 1

    def ask(self, now: float) -> None:
        """A ping is sent."""
        self.asked_at = self._sent_at = self._probed_at = now
        self.patient = self._at_rest(now)

    def heard(self, now: float) -> None:
        """The broker sent something; whatever it is, it lives."""
        self.heard_at = now
        self.asked_at = None

    def received(self, now: float) -> None:
        """A message came: the connection is in use."""
        self._used_at = now

    def published(self, now: float) -> bool:
        """A message was sent: return whether to ask at once."""
        self._used_at = self._sent_at = now
        if self.asked_at is not None:
            return self.patient
        return now - self._probed_at >= PROBE_INTERVAL_S

    def _at_rest(self, now: float) -> bool:
        return now - self._used_at >= REST_AFTER_KEEPALIVES * self.keepalive_s
