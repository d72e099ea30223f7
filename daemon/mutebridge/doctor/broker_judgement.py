"""What a visit to the broker means: the connection, the rights, the bridge and the controllers there. Pure."""

from collections.abc import Iterator

import msgspec

from mutebridge.core import contract
from mutebridge.core.contract import Call, CallState, Mic, PayloadError, valid_name
from mutebridge.doctor.facts import BrokerFacts, MachineFacts
from mutebridge.doctor.findings import Finding, State
from mutebridge.edges.broker.problems import Problem, ProblemKind
from mutebridge.edges.broker.rights import Answer, Heard

OK, WARNING, PROBLEM = State.OK, State.WARNING, State.PROBLEM
NOT_APPLICABLE, CANNOT_TELL = State.NOT_APPLICABLE, State.CANNOT_TELL

CHECKS = ("broker", "certificate", "publish", "subscribe", "bridge", "controller")
CERTIFICATE_DAYS = 14
_DAY_MS = 24 * 3600 * 1000

_REMEDIES = {
    ProblemKind.UNKNOWN_HOST: "set broker.host to a name that this machine can look up: getent hosts NAME",
    ProblemKind.CONNECTION_REFUSED: "start the broker (on its machine: systemctl status mosquitto), or set broker.port",
    ProblemKind.UNREACHABLE: "look at the network and the firewall, or set broker.host",
    ProblemKind.PASSWORD_UNREADABLE: "put the password there",
    ProblemKind.NOT_AUTHORISED: "set broker.username and its password as the broker has them",
    ProblemKind.CLIENT_ID_TAKEN: "take use_username_as_clientid out of the broker's configuration",
    ProblemKind.SILENT: "restart the broker, or set broker.host and broker.port",
    ProblemKind.CLOSED: "look at the broker's log, and set broker.host, broker.port and broker.tls as it has them",
    ProblemKind.PROTOCOL: "set broker.port to the MQTT port, and broker.protocol to auto",
}
_OTHER_REMEDY = "look at the broker's log"
_TLS_REMEDY = "set broker.tls, or the broker's certificate, so: openssl s_client -connect HOST:PORT shows it"
_READ_FIRST = "mend what may not be published or read first"
_RIGHTS = "give the bridge's user this right: config/mosquitto.acl has all that it needs"


def broker_findings(broker: BrokerFacts, machine: MachineFacts | None) -> Iterator[Finding]:
    """In the order of CHECKS, at least one of each."""
    if machine is not None and machine.embedded_broker and _kind(broker) is ProblemKind.NOT_AUTHORISED:
        yield from _embedded(broker)
        return
    yield _connection(broker, machine)
    if broker.visit.connected_in_s is None:
        for name in CHECKS[1:]:
            yield Finding(name, CANNOT_TELL, "without a connection to the broker", "mend the connection first")
        return
    yield _certificate(broker)
    yield from _publishing(broker)
    yield from _subscribing(broker)
    yield _bridge(broker, machine)
    yield from _controllers(broker)


def _embedded(broker: BrokerFacts) -> Iterator[Finding]:
    """The daemon has made up a password for itself, which nobody else knows."""
    yield Finding("broker", OK, "the daemon has brought it along, and it answers", about=broker.settings.url)
    for name in CHECKS[1:-1]:
        yield Finding(name, NOT_APPLICABLE, "the broker that the daemon has brought along lets it do everything")
    finding = "only the daemon hears them at the broker that it has brought along"
    yield Finding(
        "controller", CANNOT_TELL, finding, "journalctl -u mutebridge says who is online; else: mutebridge pair"
    )


def _kind(broker: BrokerFacts) -> ProblemKind | None:
    return broker.visit.problem.kind if broker.visit.problem is not None else None


# --- the connection


def _connection(broker: BrokerFacts, machine: MachineFacts | None) -> Finding:
    name, visit = "broker", broker.visit
    about = broker.settings.url
    if visit.problem is None and visit.connected_in_s is not None:
        who = f" as {broker.settings.username}" if broker.settings.username else ""
        return Finding(
            name, OK, f"answers{who}, MQTT {visit.protocol}, in {visit.connected_in_s * 1000:.0f} ms", about=about
        )
    assert visit.problem is not None
    if machine is not None and not machine.root and _is_secret(visit.problem):
        return Finding(name, CANNOT_TELL, visit.problem.message, "run it as root: sudo mutebridge doctor", about)
    return Finding(name, PROBLEM, visit.problem.message, _remedy(visit.problem, broker), about)


def _is_secret(problem: Problem) -> bool:
    """Whether it is something that only the service's user and root may read, as is right."""
    forbidden = problem.kind is ProblemKind.TLS and problem.message.endswith("Permission denied")
    return problem.kind is ProblemKind.PASSWORD_UNREADABLE or forbidden


def _remedy(problem: Problem, broker: BrokerFacts) -> str:
    if problem.kind is ProblemKind.TLS:
        settings = broker.settings
        return _TLS_REMEDY.replace("HOST", settings.host).replace("PORT", str(settings.effective_port))
    return _REMEDIES.get(problem.kind, _OTHER_REMEDY)


def _certificate(broker: BrokerFacts) -> Finding:
    name, ends_at = "certificate", broker.visit.certificate_ends_at
    if ends_at is None:
        return Finding(name, NOT_APPLICABLE, "no TLS")
    days = int((ends_at * 1000 - broker.now_ms) // _DAY_MS)
    if days < CERTIFICATE_DAYS:
        remedy = "renew it on the broker: once it has ended no bridge connects"
        return Finding(name, WARNING, f"the broker's ends in {days} days", remedy)
    return Finding(name, OK, f"the broker's holds for {days} days")


# --- the rights


def _publishing(broker: BrokerFacts) -> Iterator[Finding]:
    heard = {each.topic for each in broker.visit.heard if not each.retained}
    for topic, shown in broker.publish.items():
        answer = broker.visit.published.get(topic)
        # MQTT 3.1.1 has one answer for all messages.
        proven = topic in heard or (answer is Answer.ACCEPTED and broker.visit.protocol == "5")
        unproven = "accepted, but it does not come back: publishing or reading it is forbidden"
        yield _right("publish", shown, answer, proven=proven, unproven=unproven)


def _right(name: str, about: str, answer: Answer | None, *, proven: bool, unproven: str) -> Finding:
    if proven:
        return Finding(name, OK, "may be published" if name == "publish" else "may be read", about=about)
    if answer is Answer.REFUSED:
        return Finding(name, PROBLEM, "the broker refuses it", _RIGHTS, about)
    if answer is Answer.HUNG_UP:
        return Finding(name, PROBLEM, "the broker ends the connection over it", _RIGHTS, about)
    if answer is Answer.ACCEPTED:
        return Finding(name, PROBLEM, unproven, _RIGHTS, about)
    return Finding(name, CANNOT_TELL, "the broker did not answer in time", "try again; then look at its log", about)


def _subscribing(broker: BrokerFacts) -> Iterator[Finding]:
    visit = broker.visit
    delivered = {each.topic for each in visit.heard}
    reads_controllers = broker.proof_of_reading in delivered
    could_publish = visit.published.get(broker.proof_of_reading) is Answer.ACCEPTED
    for topic_filter in broker.subscribe:
        answer = visit.subscribed.get(topic_filter)
        of_controllers = "/controller/" in topic_filter
        proven = any(_matches(topic_filter, topic) for topic in delivered) or (of_controllers and reads_controllers)
        if answer is Answer.ACCEPTED and not proven and (not of_controllers or not could_publish):
            # Nothing could come back that would have proved it.
            finding = "granted, which proves nothing, and nothing came"
            yield Finding("subscribe", CANNOT_TELL, finding, _READ_FIRST, topic_filter)
        else:
            unproven = "granted, but nothing comes: reading it is forbidden"
            yield _right("subscribe", topic_filter, answer, proven=proven, unproven=unproven)


def _matches(topic_filter: str, topic: str) -> bool:
    levels, wanted = topic.split("/"), topic_filter.split("/")
    return len(levels) == len(wanted) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


# --- the bridge


def _bridge(broker: BrokerFacts, machine: MachineFacts | None) -> Finding:
    name, about = "bridge", f"station {broker.topics.station}"
    online = _last(broker, broker.topics.bridge_availability) == b"online"
    runs = machine is not None and machine.daemon_runs
    if not any(each.topic == broker.topics.bridge_availability for each in broker.visit.heard):
        return Finding(name, CANNOT_TELL, "its availability cannot be read", _READ_FIRST, about)
    if online and (runs or machine is None):
        return Finding(name, OK, "online", about=about)
    if online:
        finding = "a bridge is online for it, but none runs on this machine"
        return Finding(name, WARNING, finding, "give each machine a station of its own", about)
    if runs:
        remedy = "journalctl -u mutebridge -n 20 says why; is it the same configuration?"
        return Finding(name, PROBLEM, "the daemon runs, but is not online there", remedy, about)
    return Finding(name, NOT_APPLICABLE, "no daemon runs on this machine", about=about)


def _last(broker: BrokerFacts, topic: str) -> bytes:
    """What was last said on a topic; the doctor's own empty message is nothing."""
    return next((each.payload for each in reversed(broker.visit.heard) if each.topic == topic and each.payload), b"")


# --- the controllers


def _controllers(broker: BrokerFacts) -> Iterator[Finding]:
    name = "controller"
    names = sorted({each for heard in broker.visit.heard if (each := _controller_of(broker, heard.topic))})
    online = any(_last(broker, broker.topics.controller(each, "availability")) == b"online" for each in names)
    for controller in names:
        yield from _controller(broker, controller, one_is_online=online)
    if not names and broker.proof_of_reading not in {each.topic for each in broker.visit.heard}:
        yield Finding(name, CANNOT_TELL, "what they say cannot be read", _READ_FIRST)
    elif not names:
        finding = f"none has said anything for station {broker.topics.station}"
        yield Finding(name, WARNING, finding, "start the softphone; give it this station, this prefix and this broker")


def _controller_of(broker: BrokerFacts, topic: str) -> str | None:
    levels = topic.removeprefix(f"{broker.topics.root}/").split("/")
    if topic == broker.proof_of_reading or len(levels) != 3 or levels[0] != "controller":
        return None
    try:
        return valid_name("controller", levels[1])
    except ValueError:
        return None


class _Said(msgspec.Struct, kw_only=True):
    """What one controller has said."""

    online: bool | None
    call: Call | None
    mic: Mic | None
    mic_is_live: bool


def _controller(broker: BrokerFacts, controller: str, *, one_is_online: bool) -> Iterator[Finding]:
    name, about = "controller", controller
    commands = broker.topics.controller(controller, "command")
    if any(each.retained and each.topic == commands and each.payload for each in broker.visit.heard):
        remedy = f"clear it: mosquitto_pub -r -n -t {commands}; whoever published it must not retain commands"
        yield Finding(name, PROBLEM, "a command is retained, so an old press acts at each start", remedy, about)
    try:
        said = _said(broker, controller)
    except PayloadError as error:
        yield Finding(name, PROBLEM, str(error), "mend the controller: config/contract has what is allowed", about)
        return
    if said.online is False and one_is_online:
        yield Finding(name, OK, "offline, but another one is online", about=about)
    else:
        yield _alive(broker, about, said)


def _said(broker: BrokerFacts, controller: str) -> _Said:
    latest: dict[str, Heard] = {}
    for each in broker.visit.heard:
        latest[each.topic] = each
    topics = {leaf: broker.topics.controller(controller, leaf) for leaf in ("availability", "call", "mic")}
    payloads = {leaf: latest[topic].payload if topic in latest else b"" for leaf, topic in topics.items()}
    mic = latest.get(topics["mic"])
    return _Said(
        online=contract.decode_availability(topics["availability"], payloads["availability"]),
        call=contract.decode_call(topics["call"], payloads["call"]),
        mic=contract.decode_mic(topics["mic"], payloads["mic"]),
        mic_is_live=mic is not None and not mic.retained,
    )


def _alive(broker: BrokerFacts, about: str, said: _Said) -> Finding:  # noqa: PLR0911 - a table of cases
    name, call, mic = "controller", said.call, said.mic
    if said.online is False:
        return Finding(name, WARNING, "offline", "open the softphone; it comes back by itself", about)
    online = "online" if said.online else "never said online, which counts as online"
    if call is None:
        return Finding(
            name, WARNING, f"{online}; no call state", "it has to publish its call, even disconnected", about
        )
    state = call.state.value
    if call.state is not CallState.CONNECTED:
        return Finding(name, OK, f"{online}; call {state}{_ago(broker, call.at)}", about=about)
    if mic is None:
        remedy = "it has to publish its mic state in each call: until then every light is dark"
        return Finding(name, PROBLEM, f"{online}; call connected, microphone unknown", remedy, about)
    word = "muted" if mic.muted else "live"
    if call.heartbeat_s is None:
        return Finding(name, OK, f"{online}; call connected, microphone {word}; no heartbeat to go by", about=about)
    if said.mic_is_live:
        return Finding(name, OK, f"{online}; call connected, microphone {word}; its heartbeat came", about=about)
    listened_s = broker.visit.listened_s
    if call.heartbeat_s < listened_s:
        remedy = "it hangs, or is gone and the broker has not noticed: reload or restart the softphone"
        finding = f"{online}; call connected, but no heartbeat in {listened_s:.0f} s (every {call.heartbeat_s:g} s)"
        return Finding(name, PROBLEM, f"{finding}{_ago(broker, mic.at)}", remedy, about)
    finding = (
        f"{online}; call connected, microphone {word}{_ago(broker, mic.at)}; its heartbeat is too slow to wait for"
    )
    return Finding(name, CANNOT_TELL, finding, "wait for the next: the lights go dark without it", about)


def _ago(broker: BrokerFacts, at_ms: float | None) -> str:
    """How long ago it was said; a controller's clock may differ from this machine's."""
    if at_ms is None:
        return ""
    seconds = (broker.now_ms - at_ms) / 1000
    if seconds < 0:
        return ", said just now, or by a clock that is ahead"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f", said {seconds / size:.0f} {unit} ago by its clock"
    return f", said {seconds:.0f} s ago by its clock"
