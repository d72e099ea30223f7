"""The adapter of genesys-cloud-webrtc-sdk, with the SDK's real code in Chromium before genesys_network."""

from collections.abc import Iterator

import pytest
from tests.integration.browser_page import needs_chromium
from tests.integration.genesys_network import Conversation
from tests.integration.genesys_softphone import WebrtcSoftphone, Workplace, fetches, needs_npm, workplace

pytestmark = [needs_chromium, needs_npm, fetches]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with workplace(tmp_path_factory.mktemp("genesys")) as place:
        yield place


@pytest.fixture
def phone(desk: Workplace) -> Iterator[WebrtcSoftphone]:
    with desk.softphone() as softphone:
        softphone.follow()
        yield softphone


def connected(phone: WebrtcSoftphone) -> Conversation:
    call = phone.cloud.ring()
    phone.accept(call)
    phone.wait_told("ringing call", "connected call", "live", call=call)
    return call


def muting_requests(phone: WebrtcSoftphone) -> int:
    return sum(request.method == "PATCH" and "muted" in request.body for request in phone.cloud.requests.all())


def test_a_call_is_told_as_genesys_cloud_tells_it(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    phone.mute(call, True)
    phone.wait_told("muted")
    phone.hold(call, True)
    phone.wait_told("held call", call=call)
    phone.hold(call, False)
    phone.wait_told("connected call", call=call)
    phone.cloud.change(call, muted=False)  # another client of the same person
    phone.wait_told("live")
    phone.end(call)
    phone.wait_told("disconnected call", call=call)


def test_muting_is_told_by_the_notification_alone(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    assert phone.set_mute(True, call) == "ok"
    phone.wait_told("muted")
    assert phone.set_mute(False, call) == "ok"
    phone.wait_told("live")


def test_while_ringing_nothing_is_asked(phone: WebrtcSoftphone) -> None:
    call = phone.cloud.ring()
    phone.wait_told("ringing call", call=call)
    assert phone.set_mute(True, call).startswith("not_connected: ")
    assert muting_requests(phone) == 0


def test_dialing_is_not_connected_though_the_sdk_says_so(phone: WebrtcSoftphone) -> None:
    call = phone.cloud.ring(direction="outbound")  # answers itself, as the SDK does by default
    phone.wait_told("ringing call", "dialing call", call=call)
    handler = "softphone.sdk.sessionManager.sessionHandlers[0]"
    assert phone.page.evaluate(
        f"id => {handler}.isConnectedState({handler}.conversations[id].mostRecentCallState)", call.id
    )
    assert phone.set_mute(True, call).startswith("not_connected: the call is dialing")
    assert muting_requests(phone) == 0
    phone.cloud.change(call, state="connected")
    phone.wait_told("connected call", "live", call=call)


def test_a_held_call_is_not_asked(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    phone.hold(call, True)
    phone.wait_told("held call", call=call)
    assert phone.set_mute(True, call).startswith("not_connected: the call is held")
    assert muting_requests(phone) == 0


def test_each_of_several_calls_has_its_microphone(phone: WebrtcSoftphone) -> None:
    first = connected(phone)
    phone.mute(first, True)
    phone.wait_told("muted")
    second = phone.cloud.ring()
    phone.accept(second)  # the SDK asks for the first to be held, and does not wait for it
    told = ("ringing second", "connected second", "live", "held first")
    phone.wait_told(*told, any_order=True, first=first, second=second)
    assert phone.set_mute(True, first).startswith("not_connected: the call is held")
    assert phone.set_mute(True, None) == "ok"
    phone.wait_told("muted")
    assert (first.call["muted"], second.call["muted"]) == (True, True)
    phone.cloud.change(second, muted=False)
    phone.wait_told("live")
    phone.cloud.change(first, held=False)  # both: the one that was connected last has the microphone
    phone.wait_told("connected first", "muted", first=first)
    phone.cloud.change(first, held=True)
    phone.wait_told("held first", "live", first=first)
    phone.end(second)
    phone.wait_told("disconnected second", second=second)
    phone.hold(first, False)
    phone.wait_told("connected first", "muted", first=first)


def test_a_call_that_is_given_up_or_taken_elsewhere_is_over(phone: WebrtcSoftphone) -> None:
    call = phone.cloud.ring()
    phone.wait_told("ringing call", call=call)
    phone.cloud.given_up(call)
    phone.wait_told("disconnected call", call=call)
    call = phone.cloud.ring()
    phone.wait_told("ringing call", call=call)
    phone.cloud.taken_elsewhere(call)
    phone.wait_told("disconnected call", call=call)


def test_a_call_that_another_client_takes_beside_a_connected_one_is_over(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    other = phone.cloud.ring()
    phone.wait_told("ringing other", other=other)
    phone.mute(call, True)  # an update, in which the other one rings
    phone.wait_told("muted")
    phone.cloud.taken_elsewhere(other)
    phone.wait_told("disconnected other", other=other)


def test_a_call_that_ends_while_the_sdk_asks_is_not_connected(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    phone.cloud.before_patch = lambda: phone.cloud.change(call, state="disconnected")
    assert phone.set_mute(True, call).startswith("not_connected: ")
    phone.wait_told("disconnected call", call=call)


def test_a_token_without_the_scope(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    phone.cloud.scopes.discard("conversations")
    refusal = phone.set_mute(True, call)
    assert refusal.startswith("missing_scope: Genesys Cloud answered 403")
    assert "conversations" in refusal


def test_a_role_without_the_permission(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    message = (
        "Unable to perform the requested action. You are missing the following permission(s): [conversation:call:x]"
    )
    phone.cloud.refusal = (403, {"status": 403, "code": "missing.permissions", "message": message})
    assert "[conversation:call:x]" in phone.set_mute(True, call)


@pytest.mark.parametrize(
    ("status", "code", "refused"),
    [(401, "bad.credentials", "not_allowed"), (403, "not.authorized", "not_allowed"), (429, "too.many", "failed")],
)
def test_other_refusals(phone: WebrtcSoftphone, status: int, code: str, refused: str) -> None:
    call = connected(phone)
    phone.cloud.refusal = (status, {"status": status, "code": code, "message": "No."})
    refusal = phone.set_mute(True, call)
    assert refusal.startswith(f"{refused}: Genesys Cloud answered {status} ({code}): No.")


def test_the_scope_is_named_from_what_the_page_knows(desk: Workplace) -> None:
    with desk.softphone() as phone:
        phone.follow(scopes=["notifications"])
        call = connected(phone)
        phone.cloud.refusal = (403, {})
        assert phone.set_mute(True, call).endswith("; the access token lacks conversations")


def test_while_the_stream_is_down_the_microphone_is_unknown(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    phone.mute(call, True)
    phone.wait_told("muted")
    phone.cloud.cut()
    phone.wait_told("unknown")
    phone.wait_told("muted")  # connected anew, and Genesys Cloud confirms it


def test_a_change_while_the_stream_was_down_stays_unknown_until_it_is_heard(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    phone.mute(call, True)
    phone.wait_told("muted")
    phone.cloud.cut()
    phone.cloud.change(call, muted=False)
    phone.wait_told("unknown")
    asked = f"/api/v2/conversations/{call.id}"
    phone.cloud.requests.wait(lambda request: request.path == asked)
    assert phone.set_mute(False, call) == "ok"
    phone.wait_told()
    assert phone.set_mute(True, call) == "ok"
    phone.wait_told("muted")


def test_a_session_that_is_replaced_does_not_end_the_call(phone: WebrtcSoftphone) -> None:
    call = connected(phone)
    answers = "count => softphone.sdk.sessionManager.getAllSessions().filter((each) => each.state === 'active').length"
    phone.cloud.reinvite(call)
    phone.page.wait_for_function(f"({answers})() === 1")
    assert phone.set_mute(True, call) == "ok"
    phone.wait_told("muted")


def test_a_call_that_goes_on_already_is_told(desk: Workplace) -> None:
    with desk.softphone() as phone:
        call = phone.cloud.ring()
        phone.accept(call)
        phone.page.wait_for_function("softphone.sdk.sessionManager.getAllActiveConversations().length")
        phone.follow()
        phone.wait_told("connected call", "live", call=call)
        other = phone.cloud.ring()
        phone.wait_told("ringing other", other=other)


def test_it_can_be_connected_before_the_sdk_is_initialized(desk: Workplace) -> None:
    with desk.softphone(logged_in=False) as phone:
        phone.make()
        phone.follow()
        phone.initialize()
        connected(phone)
