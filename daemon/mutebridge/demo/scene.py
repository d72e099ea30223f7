"""All that plays in the demo, brought up, watched, taken down again.

The softphone is in this process, as is its session controller; the daemon is a process of its own, exactly as the
service would run it. Whatever happens anywhere becomes a `Moment` of the timeline, in the order in which it was seen.
"""

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mutebridge.controller.session_controller import Happening, SessionController
from mutebridge.controller.simulator import SdkAdapter
from mutebridge.controller.softphone import MUTE_SCOPE, NotNowError, SimulatedSoftphone
from mutebridge.core.contract import DeviceState, Outcome, PayloadError, PressEvent, Topics, decode, decode_availability
from mutebridge.demo.page import CONTROLLER as PAGE
from mutebridge.demo.page import DemoPage
from mutebridge.demo.plugged_headset import PluggedHeadset
from mutebridge.demo.truth import Truth
from mutebridge.demo.virtual_button import LIT, PROTOCOL, WAITING, VirtualSerialButton
from mutebridge.edges.broker import Broker, BrokerSettings, Problem, Retained
from mutebridge.edges.local_broker import LocalBroker
from mutebridge.edges.local_broker.child_process import dying_with_parent

BUTTON_ID = "demo-button"
BUTTON_NAME = "virtual button"
HEADSET_ID = "demo-headset"
HEADSET_NAME = "virtual headset"
CONTROLLER = "demo"

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
HEADSET_TIMEOUT_S = 10.0
_KEPT_MOMENTS = 500
_SHOWN_BY_WORD = {
    LIT: "the light is on: muted",
    "LIVE": "the light is dark: live",
    "UNKNOWN": "the light is dark: it is not known what the microphone does",
    "OFF": "the light is dark: no call is connected",
    WAITING: "the light is dark: waiting for the answer",
    "NO": "the light blinks: not done",
}


class SceneError(Exception):
    """Something of the scene does not come up; the message says what, with what it said itself."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What happened `at_s` seconds after the start, with how things stood right after it."""

    at_s: float
    who: str
    text: str
    call: str
    muted: bool | None
    lit: bool


class Scene:
    """Everything that plays. Methods may be called from any thread; `on_change` is called, quickly, at each change."""

    def __init__(self, broker: LocalBroker, page: DemoPage | None = None) -> None:
        self.broker = broker
        self.page = page
        self.on_change: Callable[[], None] = lambda: None
        self.moments: deque[Moment] = deque(maxlen=_KEPT_MOMENTS)
        self.on_moment: Callable[[Moment], None] = lambda _: None
        self.presses: list[PressEvent] = []
        self.devices: dict[str, DeviceState] = {}
        self.bridge_online = False
        self.truth = Truth()
        self.softphone = SimulatedSoftphone()
        self.daemon_said: deque[str] = deque(maxlen=200)
        self._changed = threading.Condition(threading.RLock())
        self._started = time.monotonic()
        self._controller_up = False
        self._observer_up = False
        self._fatal = ""
        self._call = self.softphone.get_state()
        self.button_told = ""
        self._ended: int | None = None
        self._daemon: subprocess.Popen[str] | None = None
        self._headset: PluggedHeadset | None = None
        self._stack = contextlib.ExitStack()
        self._topics = Topics(f"demo-{os.getpid()}")
        self._settings = BrokerSettings(host=broker.host, port=broker.port)
        self._observer_topic = f"{self._topics.root}/observer"
        self._seen_devices: set[str] = set()
        self._controller = self._make_controller()
        self._observer = self._make_observer()

    # --- up and down -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutebridge-demo-")))
            stack.enter_context(self._log_in_timeline())
            self.happened("broker", f"{self.broker.what}, at {self.broker.host}:{self.broker.port}")
            self._button = VirtualSerialButton(self._button_told)
            stack.callback(self._button.close)
            self._plug_headset()
            stack.callback(self._unplug_headset)
            self._observer.start()
            stack.callback(self._clear_up)
            self._controller.start()
            stack.callback(self._controller.stop)
            self._await(lambda: self._observer_up and self._controller_up, "the broker does not answer")
            if self.page is not None:
                self.page.on_door = lambda door: self.happened("page", f"{door} leads to it once")
                self.page.pair(self._topics)
            self._start_daemon(folder)
            stack.callback(self.stop_daemon)
            self._await(lambda: self.bridge_online and BUTTON_ID in self.devices, "the daemon does not get ready")
            if self._headset is not None and not self.wait_for(lambda: HEADSET_ID in self.devices, HEADSET_TIMEOUT_S):
                self._unplug_headset()
                self.happened("headset", "no virtual headset: the kernel made one, but it does not appear in /dev")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def stop_daemon(self) -> int | None:
        """Have the daemon end in order; returns its exit status, None when it had to be killed."""
        assert self._daemon is not None
        if self._daemon.poll() is None:
            self.happened("bridge", "is asked to end")
            self._daemon.send_signal(signal.SIGTERM)
        try:
            status = self._daemon.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
            return None
        self._listener.join()
        return status

    def _start_daemon(self, folder: Path) -> None:
        config = folder / "mutebridge.yaml"
        button = {"id": BUTTON_ID, "name": BUTTON_NAME, "port": self._button.port, "serial": PROTOCOL}
        broker = {"host": self._settings.host, "port": self._settings.port}
        devices = [button]
        if self._headset is not None:
            devices.append({"id": HEADSET_ID, "name": HEADSET_NAME, "match": {"serial_number": self._topics.station}})
        settings = {"station": self._topics.station, "broker": broker, "devices": devices}
        config.write_bytes(msgspec.json.encode(settings))  # JSON is YAML
        command = [sys.executable, "-m", "mutebridge", "run", "--config", str(config)]
        self._daemon = subprocess.Popen(  # noqa: S603 - our own program
            dying_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A Ctrl-C is for the demo, which ends the daemon when its light is to go dark.
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, args=(self._daemon,), name="daemon's log", daemon=True)
        self._listener.start()

    def _await(self, ready: Callable[[], bool], otherwise: str) -> None:
        if not self.wait_for(lambda: ready() or self._fatal or self._ended is not None, START_TIMEOUT_S) or not ready():
            said = "".join(self.daemon_said)
            raise SceneError("\n".join(part for part in (self._fatal or otherwise, said) if part))

    def _clear_up(self) -> None:
        """Leave nothing retained behind on a broker that is somebody's."""
        topics = [self._topics.controller(CONTROLLER, leaf) for leaf in ("availability", "call", "mic")]
        topics += [
            self._observer_topic,
            self._topics.bridge_availability,
            *map(self._topics.bridge_device, self._seen_devices),
        ]
        self._observer.stop(farewell=[Retained(topic, b"") for topic in topics])

    def _plug_headset(self) -> None:
        """Have a headset beside the button where the kernel allows it."""
        try:
            self._headset = PluggedHeadset("Virtual Headset", self._topics.station, self._headset_lit)
        except OSError as error:
            why = f"{error.strerror} (it takes root and the module uhid)"
            self.happened("headset", f"no virtual headset: /dev/uhid: {why}")

    def _unplug_headset(self) -> None:
        headset, self._headset = self._headset, None
        if headset is not None:
            headset.close()
            with self._changed:
                self.truth.lamp(HEADSET_NAME, None, time.monotonic())

    # --- what a person does ------------------------------------------------------------------------------------------

    def press(self) -> None:
        """Press the virtual button."""
        self.happened("person", "presses the button")
        self._button.press()

    @property
    def has_headset(self) -> bool:
        return self._headset is not None

    def press_headset(self) -> None:
        """Press the mute button of the virtual headset, if there is one."""
        if self._headset is not None:
            self.happened("person", "presses the mute button of the headset")
            self._headset.press()

    def call(self, verb: str) -> None:
        """`ring`, `dial`, `connect`, `hold`, `resume` or `end`; what cannot be done now becomes a moment, too."""
        try:
            self.softphone.do(verb)
        except NotNowError as error:
            self.happened("person", f"{error}")

    def mute_by_hand(self) -> None:
        """Mute or unmute on the softphone's own page."""
        muted = not self.softphone.mic
        self.happened("person", f"{'mutes' if muted else 'unmutes'} on the softphone's own page")
        try:
            self.softphone.hand(muted)
        except NotNowError as error:
            self.happened("person", f"{error}")

    def allow(self, allowed: bool) -> None:
        """Give the softphone the permission to mute, or take it away."""
        if allowed:
            self.softphone.scopes.add(MUTE_SCOPE)
        else:
            self.softphone.scopes.discard(MUTE_SCOPE)
        self.happened("person", f"{'gives back' if allowed else 'takes away'} the scope {MUTE_SCOPE}")

    @property
    def allowed(self) -> bool:
        return MUTE_SCOPE in self.softphone.scopes

    def open_page(self) -> None:
        """Open the softphone page, if there is one, in the person's browser."""
        if self.page is not None and not webbrowser.open(self.page.door):
            self.happened("page", "no browser is found here; its address can be opened by hand")

    # --- watching ----------------------------------------------------------------------------------------------------

    def wait_for(self, what: Callable[[], object], timeout_s: float) -> bool:
        """Wait until something is so; False when it was not in time."""
        with self._changed:
            return bool(self._changed.wait_for(what, timeout_s))

    def happened(self, who: str, text: str) -> None:
        """Add a moment to the timeline."""
        with self._changed:
            moment = Moment(
                at_s=time.monotonic() - self._started,
                who=who,
                text=text,
                call=self._call,
                muted=self.truth.muted,
                lit=self.button_lit,
            )
            self.moments.append(moment)
            self.on_moment(moment)
            self._changed.notify_all()
        self.on_change()

    @property
    def button_lit(self) -> bool:
        return self.truth.lit.get(BUTTON_NAME, False)

    @property
    def headset_lit(self) -> bool | None:
        """None: there is none."""
        return self.truth.lit.get(HEADSET_NAME, False) if self.has_headset else None

    @property
    def at_rest(self) -> bool:
        """Every lamp shows just what the microphone does, nothing is under way, the daemon knows of the call."""
        known = {"ring": self._call == "ringing", "hold": self._call == "held"}
        daemon_knows = all(device.lights.items() >= known.items() for device in self.devices.values())
        return daemon_knows and self.button_told != WAITING and self.truth.at_rest

    def lies(self) -> list[str]:
        """What lamps said that was not true, for people."""
        with self._changed:
            return [
                f"{lie.lamp}: lit for {lie.lasted_s:.3f} s while the microphone was not muted,"
                f" from {lie.since - self._started:.3f} s on"
                for lie in self.truth.all_lies(time.monotonic())
            ]

    # --- the softphone

    def _make_controller(self) -> SessionController:
        adapter = SdkAdapter(self.softphone)
        controller = SessionController(
            self._topics.station,
            CONTROLLER,
            set_mute=adapter.set_mute,
            broker=self._settings,
            observe=self._controller_saw,
        )

        def call_changed(state: str, call_id: str) -> None:
            # A call that begins says its microphone next; until then the one before would speak.
            self._microphone(self.softphone.mic if self._call == "held" else None)
            self._call = state
            self.happened("call", state)
            controller.call_changed(state, call_id)

        def mic_changed(muted: bool) -> None:
            self._microphone(muted)
            self.happened("microphone", "muted" if muted else "live")
            controller.mic_changed(muted)

        self.softphone.on_state_change, self.softphone.on_mic_state_change = call_changed, mic_changed
        return controller

    def _microphone(self, muted: bool | None) -> None:
        with self._changed:
            self.truth.microphone(muted, time.monotonic())

    def _controller_saw(self, happening: Happening) -> None:
        with self._changed:
            if happening.what in ("up", "lost"):
                self._controller_up = happening.what == "up"
                self._changed.notify_all()

    # --- the button

    def _button_told(self, word: str) -> None:
        with self._changed:
            self.truth.lamp(BUTTON_NAME, word == LIT, time.monotonic())
            if word != self.button_told:
                self.button_told = word
                self.happened("button", _SHOWN_BY_WORD.get(word, f"is told {word!r}"))

    def _headset_lit(self, lit: bool) -> None:
        with self._changed:
            self.truth.lamp(HEADSET_NAME, lit, time.monotonic())
            self.happened("headset", f"the mute light is {'on' if lit else 'dark'}")

    # --- the bridge

    def _make_observer(self) -> Broker:
        return Broker(
            self._settings,
            client_id=f"mutebridge-demo:{self._topics.station}",
            will=Retained(self._observer_topic, b"gone"),
            subscriptions=[(f"{self._topics.root}/bridge/#", 1), (self._topics.controller(PAGE, "+"), 1)],
            on_up=functools.partial(self._observer_is, True),
            on_lost=lambda _: self._observer_is(False),
            on_message=self._bridge_said,
            on_fatal=self._observer_failed,
        )

    def _observer_is(self, up: bool) -> None:
        with self._changed:
            self._observer_up = up
            self._changed.notify_all()

    def _observer_failed(self, problem: Problem) -> None:
        with self._changed:
            self._fatal = problem.message
            self._changed.notify_all()

    def _bridge_said(self, topic: str, payload: bytes, _retained: bool) -> None:
        leaf = topic.removeprefix(f"{self._topics.root}/bridge/")
        page_leaf = topic.removeprefix(self._topics.controller(PAGE, ""))
        try:
            if page_leaf != topic:
                self._page_said(page_leaf, payload)
            elif leaf == "availability":
                self._bridge_is(bool(decode_availability(topic, payload)))
            elif leaf == "event":
                self._press_became(decode(PressEvent, topic, payload))
            elif leaf.startswith("device/"):
                state = decode(DeviceState, topic, payload) if payload else None
                self._device_is(leaf.removeprefix("device/"), state)
        except PayloadError as error:
            self.happened("bridge", str(error))

    def _page_said(self, leaf: str, payload: bytes) -> None:
        if self.page is not None:
            self.page.said(leaf, payload)
            with self._changed:
                self.truth.microphone(self.page.muted, time.monotonic(), PAGE)
                self._changed.notify_all()
            self.on_change()

    def _bridge_is(self, online: bool) -> None:
        with self._changed:
            if online is not self.bridge_online:
                self.bridge_online = online
                self.happened("bridge", "online" if online else "offline")

    def _press_became(self, event: PressEvent) -> None:
        with self._changed:
            self.presses.append(event)
            self.happened("press", told(event, self.name_of(event.device)))

    def _device_is(self, device_id: str, state: DeviceState | None) -> None:
        with self._changed:
            name = state.name if state else self.name_of(device_id)
            known = self.devices.pop(device_id, None)
            if state is not None:
                self.devices[device_id] = state
                self._seen_devices.add(device_id)
            if device_id not in (BUTTON_ID, HEADSET_ID):  # whose lamps are seen, not only heard of
                lit = None if state is None else state.lights.get("mic") == "muted"
                self.truth.lamp(name, lit, time.monotonic())
            if (known is None) is not (state is None):
                self.happened("bridge", f"{name} {'attached' if state else 'detached'}")
            self._changed.notify_all()
        self.on_change()

    # --- this process's own log

    @contextlib.contextmanager
    def _log_in_timeline(self) -> Iterator[None]:
        """Warnings of the demo's own broker connections become moments, instead of breaking into the view."""
        handler = _ToTimeline(self)
        ours = logging.getLogger("mutebridge")
        ours.addHandler(handler)
        try:
            yield
        finally:
            ours.removeHandler(handler)

    def name_of(self, device_id: str) -> str:
        device = self.devices.get(device_id)
        return device.name if device else device_id

    def _listen(self, daemon: "subprocess.Popen[str]") -> None:
        assert daemon.stderr is not None
        with daemon.stderr as lines:
            for line in lines:
                self.daemon_said.append(line)
        with self._changed:
            self._ended = daemon.wait()
            self.happened("bridge", f"has ended, exit status {self._ended}")


class _ToTimeline(logging.Handler):
    def __init__(self, scene: Scene) -> None:
        super().__init__(logging.WARNING)
        self._scene = scene

    def emit(self, record: logging.LogRecord) -> None:
        self._scene.happened("log", record.getMessage())


def told(event: PressEvent, device: str) -> str:
    """What became of a press, for people."""
    wish = "press" if event.muted is None else "mute" if event.muted else "unmute"
    took = f" after {event.latency_ms:.1f} ms" if event.outcome is Outcome.CONFIRMED and event.latency_ms else ""
    why = f", {event.reason}" if event.reason else ""
    detail = f": {event.detail}" if event.detail else ""
    return f"{device}: {wish} {event.outcome.value.replace('_', ' ')}{took}{why}{detail}"
