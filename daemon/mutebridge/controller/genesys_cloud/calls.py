"""The user's own calls, read from what Genesys Cloud tells of conversations.

A conversation has participants: customers, queues, agents. Those that are the user are the user's calls; being
transferred back makes a second one in the same conversation. Events and listings have different shapes:

* an event of `v2.users.{id}.conversations` (ConversationEventTopicConversation) has `participants[].userId` and below
  each `calls[]`, of which a participant that was tried again has several;
* a listing of `GET /api/v2/conversations/calls` (CallConversationEntityListing), "the logged-in user's active
  conversations", has `participants[].user.id` and the call's fields in the participant itself.

Events carry nothing to order them by, so one that is late or doubled cannot be told from news. What would do harm if it
were old news is therefore `doubtful`, and a listing decides.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from mutebridge.core.contract import CallState

MAX_ENDED = 64
"""How many ended calls are remembered, to know an event about them as late."""

# The states of the SDK's models; what is missing here (uploading, converting, transmitting, none) is not connected.
_STATES = {
    "alerting": CallState.RINGING,
    "offering": CallState.RINGING,
    "dialing": CallState.DIALING,
    "contacting": CallState.DIALING,
    "connected": CallState.CONNECTED,
    "parked": CallState.HELD,
    "disconnected": CallState.DISCONNECTED,
    "terminated": CallState.DISCONNECTED,
}


class OwnCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the user. `muted` is false unless Genesys Cloud says that it is muted."""

    conversation_id: str
    participant_id: str
    state: CallState
    muted: bool

    @property
    def call_id(self) -> str:
        return f"{self.conversation_id}:{self.participant_id}"

    @property
    def path(self) -> str:
        """Where it is changed: PATCH with a MediaParticipantRequest."""
        return f"/api/v2/conversations/calls/{self.conversation_id}/participants/{self.participant_id}"


# They become part of a path and of a call_id.
_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z-]{1,64}$")]


class _Call(msgspec.Struct, frozen=True):
    state: str | None = None
    muted: bool | None = None
    held: bool | None = None

    def read(self) -> tuple[CallState, bool]:
        state = _STATES.get((self.state or "").lower(), CallState.OTHER)
        if state is CallState.CONNECTED and self.held:
            state = CallState.HELD
        return state, bool(self.muted)


class _EventParticipant(msgspec.Struct, frozen=True, rename="camel"):
    id: _Id
    user_id: str | None = None
    calls: list[_Call] | None = None


class _Event(msgspec.Struct, frozen=True):
    id: _Id
    participants: list[_EventParticipant] | None = None


class _User(msgspec.Struct, frozen=True):
    id: str | None = None


class _ListedParticipant(_Call, frozen=True, kw_only=True):
    id: _Id
    user: _User | None = None


class _ListedConversation(msgspec.Struct, frozen=True):
    id: _Id
    participants: list[_ListedParticipant] | None = None


class _Listing(msgspec.Struct, frozen=True):
    entities: list[_ListedConversation] | None = None


class Event(msgspec.Struct, frozen=True):
    """What one event says: all of the user's calls in one conversation."""

    conversation_id: str
    calls: list[OwnCall]


def read_event(user_id: str, body: object) -> Event:
    """Read an event's body; ValueError when it is none."""
    event = msgspec.convert(body, _Event)
    return Event(event.id, list(_calls_of_event(user_id, event)))


def read_listing(user_id: str, body: object) -> list[OwnCall]:
    """Read a listing; ValueError when it is none."""
    return list(_calls_of_listing(user_id, msgspec.convert(body, _Listing)))


def _calls_of_event(user_id: str, event: _Event) -> Iterator[OwnCall]:
    for each in event.participants or ():
        if each.user_id != user_id or not each.calls:
            continue
        read = [call.read() for call in each.calls]
        # The newest attempt stands last; an older one that is still alive is the call.
        state, muted = next((call for call in reversed(read) if call[0] is not CallState.DISCONNECTED), read[-1])
        yield OwnCall(conversation_id=event.id, participant_id=each.id, state=state, muted=muted)


def _calls_of_listing(user_id: str, listing: _Listing) -> Iterator[OwnCall]:
    for conversation in listing.entities or ():
        for each in conversation.participants or ():
            if each.user and each.user.id == user_id:
                state, muted = each.read()
                yield OwnCall(conversation_id=conversation.id, participant_id=each.id, state=state, muted=muted)


class CallTable:
    """The calls that are not over, by call_id."""

    def __init__(self) -> None:
        self.live: dict[str, OwnCall] = {}
        self._ended: dict[str, None] = {}

    @property
    def connected(self) -> list[OwnCall]:
        return [call for call in self.live.values() if call.state is CallState.CONNECTED]

    def doubtful(self, event: Event, *, asked_to_mute: bool) -> bool:
        """Whether it would do harm if it were old: an ended call that lives, a mute that we did not ask for."""
        return any(
            call.call_id in self._ended or (self._mutes(call) and not asked_to_mute)
            for call in event.calls
            if call.state is not CallState.DISCONNECTED
        )

    def update(self, event: Event) -> None:
        """Take over what an event says of its conversation."""
        others = [call for call in self.live.values() if call.conversation_id != event.conversation_id]
        self.replace([*others, *event.calls])

    def replace(self, calls: Iterable[OwnCall]) -> None:
        """Take over what is true of all conversations."""
        told = {call.call_id: call for call in calls}
        before, self.live = self.live, {k: c for k, c in told.items() if c.state is not CallState.DISCONNECTED}
        self._ended.update(dict.fromkeys((before.keys() | told.keys()) - self.live.keys()))
        for call_id in self.live:
            self._ended.pop(call_id, None)
        for call_id in list(self._ended)[:-MAX_ENDED]:
            del self._ended[call_id]

    def _mutes(self, call: OwnCall) -> bool:
        before = self.live.get(call.call_id)
        return call.muted and not (before and before.muted)
