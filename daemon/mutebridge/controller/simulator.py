"""`mutebridge simulate`: a softphone without audio at the other end of the bridge.

`SdkAdapter` is the part to learn from: it ties a softphone with the SDK's state machine to a `SessionController`. The
rest plays the person, from lines on the standard input or from a script, and prints what passes: for people, or with
`--json` one object per line. One thread (the caller's) does that; it sleeps in `select` until a line, a signal, the end
of a pause or a fatal problem of the broker.

Objects: `{"what": "call", "state", "call_id"}`, `{"what": "mic", "muted"}`, `{"what": "command", ...the contract's
fields}`, `{"what": "result", ...}`, `{"what": "broker", "state": "up" | "lost" | "fatal", "detail"}`, `{"what":
"refused", "line", "detail"}` for a line that could not be done.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from mutebridge.controller.paired import Paired, paired_from_environment
from mutebridge.controller.session_controller import Happening, Refused, SessionController
from mutebridge.controller.softphone import MUTE_SCOPE, NotNowError, OperationNotAllowed, SimulatedSoftphone
from mutebridge.core.contract import DEFAULT_PREFIX, CommandError
from mutebridge.edges.broker import BrokerSettings, TlsSettings

# sysexits.h
EX_OK = 0
EX_USAGE = 64
EX_UNAVAILABLE = 69

BROKER_TIMEOUT_S = 10.0
"""How long a script waits for the broker before it begins."""

HELP = """\
  ring, dial        a call comes in, or goes out
  connect           it is answered; the microphone is live
  hold, resume      on hold the microphone cannot be muted
  end               hang up
  mute, unmute      by hand, on the softphone's own page
  scope off|on      take away, or give back, the permission client:call:write
  owner other|me    somebody else owns the call, or this softphone does
  deaf on|off       the softphone accepts a mute and does nothing
  wait SECONDS      pause
  help, quit
"""

_CALL_VERBS = {"ring", "dial", "connect", "hold", "resume", "end"}
_WORDS = {
    **dict.fromkeys(sorted(_CALL_VERBS)),
    "mute": None,
    "unmute": None,
    "help": None,
    "quit": None,
    "scope": ("on", "off"),
    "owner": ("me", "other"),
    "deaf": ("on", "off"),
}


class SdkAdapter:
    """What a softphone developer writes: the SDK's events to the controller, the controller's wishes to the SDK."""

    def __init__(self, softphone: SimulatedSoftphone) -> None:
        self._softphone = softphone

    def listen(self, controller: SessionController) -> None:
        self._softphone.on_state_change = controller.call_changed
        self._softphone.on_mic_state_change = controller.mic_changed

    def set_mute(self, muted: bool) -> None:
        """Never fight the SDK: ask its state first, and find out what its bare refusal meant."""
        self._require_connected()
        try:
            self._softphone.mute_mic(muted)
        except OperationNotAllowed:
            self._require_connected()  # it may have ended in between
            if MUTE_SCOPE not in self._softphone.scopes:
                detail = f"the OAuth client lacks the scope {MUTE_SCOPE}; interaction:write is not enough"
                raise Refused(CommandError.MISSING_SCOPE, detail) from None
            detail = "the softphone says Operation Not Allowed: most likely somebody else owns this call"
            raise Refused(CommandError.NOT_ALLOWED, detail) from None

    def answer(self, _call_id: str) -> None:
        self._do("connect")

    def hang_up(self, _call_id: str) -> None:
        self._do("end")

    def _do(self, verb: str) -> None:
        try:
            self._softphone.do(verb)
        except NotNowError as error:
            raise Refused(CommandError.NOT_CONNECTED, str(error)) from None

    def _require_connected(self) -> None:
        # A session is no proof: there is one while it rings.
        state = self._softphone.get_state()
        if state != "connected":
            raise Refused(CommandError.NOT_CONNECTED, f"the softphone's call is {state}")


class ScriptError(ValueError):
    """A word that is none; the message says which and what there is."""


def parse_script(script: str) -> list[list[str]]:
    """`"ring; wait 1; connect"` as words. ScriptError for what is no command."""
    return [_parse_line(line) for line in script.replace("\n", ";").split(";") if line.strip()]


def _parse_line(line: str) -> list[str]:
    words = line.split()
    if words[0] == "wait":
        with contextlib.suppress(ValueError, IndexError):
            if len(words) == 2 and 0 <= float(words[1]) < 1e9:
                return words
        raise ScriptError(f"{line.strip()!r}: wait takes a number of seconds, as in 'wait 1.5'")
    if words[0] not in _WORDS:
        raise ScriptError(f"{words[0]!r} is none of: {', '.join([*_WORDS, 'wait'])}")
    allowed = _WORDS[words[0]]
    if allowed and words[1:] not in [[word] for word in allowed]:
        raise ScriptError(f"{line.strip()!r}: it is '{words[0]} {'|'.join(allowed)}'")
    if not allowed and len(words) > 1:
        raise ScriptError(f"{line.strip()!r}: {words[0]} stands alone")
    return words


class _Printer:
    """Prints what passes, from any thread, a line at a time; a closed output ends the program."""

    def __init__(self, out: TextIO, *, as_json: bool, on_closed: Callable[[], None]) -> None:
        self._out = out
        self._json = as_json
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._started_s = time.monotonic()
        self._prompt = ""

    def happened(self, what: str, text: str, /, **fields: Any) -> None:
        if self._json:
            self._write(json.dumps({"what": what} | fields | {"what": what}) + "\n")
        else:
            clear = "\r" + " " * len(self._prompt) + "\r" if self._prompt else ""
            seconds = time.monotonic() - self._started_s
            self._write(f"{clear}{seconds:8.2f} s  {what:<8} {text}\n{self._prompt}")

    def say(self, text: str) -> None:
        if not self._json:
            self._write(text)

    def prompt(self, prompt: str) -> None:
        if not self._json:
            self._prompt = prompt
            self._write(prompt)

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._out.write(text)
                self._out.flush()
            except (OSError, ValueError):
                self._on_closed()


class _Simulation:
    """One run. `_end` may be called from any thread or signal handler, and wakes the one that waits."""

    def __init__(  # noqa: PLR0913 - keywords, and each one is a setting
        self,
        *,
        station: str,
        name: str,
        prefix: str,
        heartbeat_s: float,
        broker: BrokerSettings,
        out: TextIO,
        as_json: bool,
        deadline: float | None,
    ) -> None:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended: int | None = None
        self._deadline = deadline
        self._was_up = False
        self._why_not = ""
        self._printer = _Printer(out, as_json=as_json, on_closed=lambda: self._end(EX_OK))
        self.softphone = SimulatedSoftphone()
        adapter = SdkAdapter(self.softphone)
        self.controller = SessionController(
            station,
            name,
            set_mute=adapter.set_mute,
            answer=adapter.answer,
            hang_up=adapter.hang_up,
            broker=broker,
            prefix=prefix,
            heartbeat_s=heartbeat_s,
            observe=self._observe,
        )
        adapter.listen(self.controller)
        self._show_softphone()

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, script: list[list[str]] | None, stdin: int) -> int:
        """Play the script, else the lines of `stdin`; return the exit code."""
        with self._signals(), self.controller:
            if script is not None:
                self._play(script)
            else:
                self._read(stdin)
            if self._ended is None and self._deadline is not None:
                self._wait(None)
        os.close(self._wake_read)
        os.close(self._wake_write)
        return self._ended or EX_OK

    def _play(self, script: list[list[str]]) -> None:
        self._wait(time.monotonic() + BROKER_TIMEOUT_S, lambda: self._was_up)
        if not self._was_up and self._ended is None:
            self._printer.happened("broker", "could not be reached", state="lost", detail="could not be reached")
            self._end(EX_UNAVAILABLE)
        for words in script:
            if self._ended is not None:
                return
            self._do(words)

    def _read(self, stdin: int) -> None:
        terminal = os.isatty(stdin)
        if terminal:
            self._printer.say(f"A softphone without audio. Type what happens to it:\n{HELP}")
        rest = b""
        while self._ended is None:
            if terminal:
                self._printer.prompt(f"[{self.softphone.get_state()}: {', '.join(self.softphone.can())}] > ")
            if not self._wait(None, stdin=stdin):
                return
            data = os.read(stdin, 4096)
            if not data:  # without a time to stay, the end of the input is the end
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._printer.prompt("")
                self._line(line.decode(errors="replace"))

    def _line(self, line: str) -> None:
        if not line.strip() or self._ended is not None:
            return
        try:
            self._do(_parse_line(line))
        except ScriptError as error:
            self._printer.happened("refused", str(error), line=line.strip(), detail=str(error))

    def _do(self, words: list[str]) -> None:
        verb, argument = words[0], words[1] if len(words) > 1 else ""
        try:
            if verb == "wait":
                self._wait(time.monotonic() + float(argument))
            elif verb in _CALL_VERBS:
                self.softphone.do(verb)
            elif verb in {"mute", "unmute"}:
                self.softphone.hand(verb == "mute")
            elif verb == "help":
                self._printer.say(HELP)
            elif verb == "quit":
                self._end(EX_OK)
            else:
                self._set_up(verb, argument)
        except NotNowError as error:
            self._printer.happened("refused", str(error), line=" ".join(words), detail=str(error))

    def _set_up(self, what: str, argument: str) -> None:
        if what == "scope":
            (self.softphone.scopes.add if argument == "on" else self.softphone.scopes.discard)(MUTE_SCOPE)
        elif what == "owner":
            self.softphone.owned_by_other = argument == "other"
        else:
            self.softphone.deaf = argument == "on"

    # --- waiting and ending ------------------------------------------------------------------------------------------

    def _wait(self, until: float | None, done: Callable[[], bool] = lambda: False, *, stdin: int | None = None) -> bool:
        """Sleep until then, or `done`, or the end; return True as soon as `stdin` has something."""
        while self._ended is None and not done():
            moments = [moment for moment in (until, self._deadline) if moment is not None]
            left_s = min(moments) - time.monotonic() if moments else None
            if left_s is not None and left_s <= 0:
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._end(EX_OK if self._was_up else EX_UNAVAILABLE)
                return False
            readable, _, _ = select.select([self._wake_read] + ([] if stdin is None else [stdin]), [], [], left_s)
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
            if stdin in readable:
                return True
        return False

    def _end(self, code: int) -> None:
        if self._ended is None:
            self._ended = code
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway
            os.write(self._wake_write, b".")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """An orderly end on SIGTERM, SIGINT and SIGHUP, where signals can be caught: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, lambda *_: self._end(EX_OK))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show_softphone(self) -> None:
        call_changed, mic_changed = self.softphone.on_state_change, self.softphone.on_mic_state_change

        def show_call(state: str, call_id: str) -> None:
            self._printer.happened("call", state, state=state, call_id=call_id)
            call_changed(state, call_id)

        def show_mic(muted: bool) -> None:
            self._printer.happened("mic", "muted" if muted else "live", muted=muted)
            mic_changed(muted)

        self.softphone.on_state_change, self.softphone.on_mic_state_change = show_call, show_mic

    def _observe(self, happening: Happening) -> None:
        if happening.what in {"up", "lost", "fatal"}:
            self._was_up = self._was_up or happening.what == "up"
            text = f"{happening.what}: {happening.reason}"
            self._printer.happened("broker", text, state=happening.what, detail=happening.reason)
            if happening.what == "fatal":
                self._end(EX_UNAVAILABLE)
            self._wake()
            return
        kind = happening.topic.rpartition("/")[2]
        if kind not in {"command", "result"}:
            return
        try:
            message = json.loads(happening.payload)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            message = {"unreadable": happening.payload[:80].decode(errors="replace")}
        self._printer.happened(kind, _describe(kind, message), **message)


def _describe(kind: str, message: dict[str, Any]) -> str:
    request_id = message.get("request_id", "without request_id")
    if kind == "result":
        refusal = f"{message.get('error')}: {message.get('detail')}"
        return f"{'ok' if message.get('ok') else refusal} ({request_id})"
    what = message.get("action", message.get("unreadable"))
    if what == "set_mute":
        what = "mute" if message.get("muted") else "unmute"
    source = message.get("source")
    device = f" from {source.get('name') or source.get('device')}" if isinstance(source, dict) else ""
    return f"{what}{device} ({request_id})"


def run_simulator(  # noqa: PLR0913 - keywords, and each one is a setting
    *,
    station: str,
    name: str = "softphone",
    prefix: str = DEFAULT_PREFIX,
    heartbeat_s: float = 5.0,
    broker: BrokerSettings | None = None,
    script: str | None = None,
    as_json: bool = False,
    for_seconds: float | None = None,
    out: TextIO | None = None,
    stdin: int = 0,
) -> int:
    """Play a softphone until the script, the lines of the file descriptor `stdin` or the time ends.

    Returns an exit code of sysexits.h. ScriptError for a script, ValueError for what else cannot be.
    """
    commands = None if script is None else parse_script(script)
    if for_seconds is not None and not 0 <= for_seconds < 1e9:
        raise ValueError(f"--for-seconds {for_seconds:g}: a number of seconds, not negative")
    simulation = _Simulation(
        station=station,
        name=name,
        prefix=prefix,
        heartbeat_s=heartbeat_s,
        broker=broker or BrokerSettings(),
        out=out or sys.stdout,
        as_json=as_json,
        deadline=None if for_seconds is None else time.monotonic() + for_seconds,
    )
    return simulation.run(commands, stdin)


# --- the command line ------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.epilog = f"lines on the standard input, and commands of a script, separated by ';':\n{HELP}\n" + (
        parser.epilog or "example:\n  mutebridge simulate --script 'ring; wait 2; connect; wait 60'"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--station", default=socket.gethostname(), help="the bridge's station (default: the host name)")
    parser.add_argument("--name", default="simulated", help="name of this controller (default: %(default)s)")
    parser.add_argument("--prefix", default=DEFAULT_PREFIX, help="prefix of the topics (default: %(default)s)")
    parser.add_argument("--heartbeat", type=float, default=5.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--script", metavar="COMMANDS", help="play these, then end: 'ring; wait 1; connect; wait 60'")
    parser.add_argument("--for-seconds", type=float, metavar="SECONDS", help="end after this time, not before")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument(
        "--paired",
        action="store_true",
        help="be who `mutebridge pair --env` says in the environment: its station, name, prefix and broker",
    )
    broker = parser.add_argument_group("broker")
    broker.add_argument("--host", default="localhost", help="default: %(default)s")
    broker.add_argument("--port", type=int, help="default: 1883, with TLS 8883")
    broker.add_argument("--username")
    broker.add_argument("--password-file", metavar="FILE", help="holds the password, read at each connect")
    broker.add_argument("--tls", action="store_true", help="with the system's authorities")
    broker.add_argument("--ca-file", metavar="FILE", help="the authorities to trust instead; implies --tls")
    broker.add_argument("--cert-file", metavar="FILE", help="client certificate; implies --tls")
    broker.add_argument("--key-file", metavar="FILE", help="its private key (default: in --cert-file)")
    broker.add_argument(
        "--allow-plaintext", action="store_true", help="another machine without TLS, on a trusted network"
    )


def main(args: argparse.Namespace) -> int:
    """Run with what `add_arguments` read; a wrong argument is told on the standard error, with EX_USAGE."""
    try:
        tls = None
        if args.tls or args.ca_file or args.cert_file or args.key_file:
            tls = TlsSettings(ca_file=args.ca_file, cert_file=args.cert_file, key_file=args.key_file)
        broker = BrokerSettings(
            host=args.host,
            port=args.port,
            username=args.username,
            password_file=args.password_file,
            tls=tls,
            allow_plaintext=args.allow_plaintext,
        )
        paired = Paired(station=args.station, name=args.name, prefix=args.prefix, broker=broker)
        if args.paired:
            paired = paired_from_environment()
        return run_simulator(
            station=paired.station,
            name=paired.name,
            prefix=paired.prefix,
            heartbeat_s=args.heartbeat,
            broker=paired.broker,
            script=args.script,
            as_json=args.json,
            for_seconds=args.for_seconds,
        )
    except ValueError as error:
        sys.stderr.write(f"mutebridge simulate: {error}\n")
        return EX_USAGE
