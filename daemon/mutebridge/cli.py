"""The command line: finds the command that is meant, hands over, turns what happens into an exit status.

What a command needs is imported when it is carried out, so that the help is quick and the daemon loads nothing that
only a demonstration needs. Exit statuses are those of sysexits(3). Answers go to standard output, trouble to standard
error; a person's error is told without a traceback, a bug with one.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mutebridge import __version__

if TYPE_CHECKING:
    from mutebridge.attachments import Sighting
    from mutebridge.config import Config, ConfigError

# What a shell says of a program that the signal ended.
_EX_INTERRUPTED = 128 + 2
_EX_BROKEN_PIPE = 128 + 13
_LEVELS = ("error", "warning", "info", "debug")

_USAGE = """\
usage: mutebridge COMMAND [options]
       mutebridge COMMAND --help
"""
_FIRST_STEPS = """\

Connects a physical mute button to a softphone: presses go over MQTT to the
softphone's session controller, only while a call is connected, and the light
shows what the microphone really does.

commands:
"""
_EPILOG = """
options:
  -h, --help  this text; after a command, what that command takes
  --version   the version

first steps:
  mutebridge demo       see it work; needs no button, no broker, no softphone
  mutebridge devices    is my button recognised, and if not, why?
  mutebridge check      is my configuration right, and what is it in full?
  mutebridge doctor     what is wrong, and what is to be done?
  mutebridge run        the bridge in this terminal; Ctrl-C ends it

The configuration is the file of --config, else of $MUTEBRIDGE_CONFIG, else
/etc/mutebridge/mutebridge.yaml. Without any it is: the broker on this machine,
every button that is recognised.

exit status: 0 well, 64 wrong usage, 65 broken data, 66 no such file,
69 something that is needed is not there, 70 a bug, 73 a file cannot be written,
75 try again later, 77 no permission, 78 wrong configuration
"""


class _Ended(Exception):  # noqa: N818 (it is no error)
    """The program ends here with `status`; what there is to say was said."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Parser(argparse.ArgumentParser):
    """argparse with the exit statuses of sysexits, and output that notices when nobody reads it."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{self.format_usage()}{self.prog}: {message}\n")
        raise _Ended(os.EX_USAGE)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message:
            _complain(message)
        raise _Ended(status)

    def _print_message(self, message: str, file: Any = None) -> None:
        _say(message) if file in (None, sys.stdout) else file.write(message)


class _Command(NamedTuple):
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    carry_out: Callable[[argparse.Namespace], int]
    examples: str


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command of `argv` (by default the process's) and return the exit status."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except _Ended as end:
        return end.status
    except KeyboardInterrupt:
        return _EX_INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return _EX_BROKEN_PIPE
    except Exception:  # a bug: whoever mends it needs all of it
        import traceback

        traceback.print_exc()
        return os.EX_SOFTWARE


def _main(argv: list[str]) -> int:
    name = _command_name(argv)
    command = _COMMANDS[name]
    parser = _Parser(
        prog=f"mutebridge {name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=command.examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    try:
        command.add_arguments(parser)
        args, unknown = parser.parse_known_args(argv[1:])
        if unknown:
            known = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 (no public list)
            parser.error(f"unknown argument {unknown[0]!r}{_meant(unknown[0].partition('=')[0], known)}")
        return command.carry_out(args)
    except ModuleNotFoundError as error:
        return _missing(name, error)


def _command_name(argv: list[str]) -> str:
    first = argv[0] if argv else ""
    if first in _COMMANDS:
        return first
    if first in ("-h", "--help", "help"):
        _say(_help())
        raise _Ended(os.EX_OK)
    if first in ("-V", "--version"):
        _say(f"mutebridge {__version__}\n")
        raise _Ended(os.EX_OK)
    if not first:
        _complain(_help())
    elif first.startswith("-"):
        _complain(f"{_USAGE}mutebridge: {first!r} in front of the command; a command's options stand after it\n")
    else:
        known = ", ".join(_COMMANDS)
        _complain(f"mutebridge: unknown command {first!r}{_meant(first, _COMMANDS)} Commands: {known}\n")
    raise _Ended(os.EX_USAGE)


def _help() -> str:
    commands = "".join(f"  {name:<9} {command.summary}\n" for name, command in _COMMANDS.items())
    return _USAGE + _FIRST_STEPS + commands + _EPILOG


def _meant(given: str, known: Any) -> str:
    import difflib

    nearest = difflib.get_close_matches(given, known, n=1)
    return f": did you mean {nearest[0]!r}?" if nearest else "."


def _missing(name: str, error: ModuleNotFoundError) -> int:
    """Say how to get a library of an extra; a missing module of our own is a bug."""
    extra = {"amqtt": "demo", "rich": "demo", "websocket": "genesys-cloud"}.get((error.name or "").partition(".")[0])
    if extra is None:
        raise error
    _complain(
        f"mutebridge {name}: needs {error.name!r}, which the service does without: pip install 'mutebridge[{extra}]', "
        f"or where it is installed as a service: sudo python3 daemon install --with {extra}\n"
    )
    return os.EX_UNAVAILABLE


# --- run


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    _add_config_argument(parser)
    parser.add_argument(
        "--embedded-broker",
        action="store_true",
        help="bring a broker along for this one workstation: on loopback, WebSockets with authentication",
    )
    parser.add_argument("--log-level", choices=_LEVELS, help="instead of the configuration's log_level")


def _run(args: argparse.Namespace) -> int:
    from mutebridge.config import ConfigError
    from mutebridge.core.events import Level
    from mutebridge.edges import journal_log

    # What is said before the configuration is read; it then sets its own level.
    journal_log.start(Level(args.log_level or "info"))
    app: Any = import_module("mutebridge.app")
    try:
        status: int = app.run(args.config, log_level=args.log_level, embedded_broker=args.embedded_broker)
    except ConfigError as error:
        return _tell_config_error(error)
    return status


# --- check


def _add_check_arguments(parser: argparse.ArgumentParser) -> None:
    _add_config_argument(parser)
    _add_json_argument(parser)


def _check(args: argparse.Namespace) -> int:
    from mutebridge import config as configuration

    try:
        config = configuration.load(args.config)
    except configuration.ConfigError as error:
        if args.json:
            _say(configuration.problems_json(error))
        return _tell_config_error(error)
    if args.json:
        _say(configuration.effective_json(config))
        return os.EX_OK
    file = configuration.find_file(args.config)
    _say(f"# {file} is well; in full:\n" if file else "# No configuration file; the defaults:\n")
    _say(configuration.effective_yaml(config))
    return os.EX_OK


# --- devices


def _add_devices_arguments(parser: argparse.ArgumentParser) -> None:
    _add_config_argument(parser)
    _add_json_argument(parser)
    parser.add_argument(
        "--descriptor",
        metavar="FILE|HEX|-",
        help="explain a HID report descriptor instead: of a file, in hexadecimal, or from standard input",
    )
    parser.add_argument(
        "--vendor-product",
        metavar="VVVV:PPPP",
        type=_vendor_product,
        help="with --descriptor: the ids of the device, such as 046d:0a37, for the profiles that are known for it",
    )
    parser.add_argument(
        "--hwdb",
        action="store_true",
        help="print entries for udev's hardware database that keep the headsets' mute keys from the desktop for good",
    )


def _devices(args: argparse.Namespace) -> int:
    if args.descriptor is not None:
        return _explain_descriptors(args)
    import time

    from mutebridge.attachments import Attachments
    from mutebridge.config import load_profiles

    config = _load(args.config)
    attachments = Attachments(lambda _event: None, time.monotonic, load_profiles())
    attachments.configure(config.devices, known_devices=config.known_devices, press_mode=config.press_mode)
    sightings = attachments.describe()
    if args.hwdb:
        from mutebridge.core import hwdb

        headsets = [s for s in sightings if s.kind == "hid" and "mute button" in s.can]
        _say(
            hwdb.entries((s.product or "", s.vendor_id, s.product_id) for s in headsets if s.vendor_id and s.product_id)
        )
    elif args.json:
        import msgspec

        _say(msgspec.json.encode({"devices": sightings}).decode() + "\n")
    else:
        _say("".join(_shown(sighting) for sighting in sightings) or _NOTHING_PLUGGED_IN)
    return os.EX_OK


_NOTHING_PLUGGED_IN = """\
No serial port and no HID device is plugged in, and none is configured. A button
appears here as soon as the kernel knows it (dmesg tells when it does not).
Without a button: mutebridge demo
"""


def _shown(sighting: "Sighting") -> str:
    lines = [f"{sighting.name or sighting.port or sighting.device_id}: {sighting.state}"]
    usb = " ".join(part for part in (sighting.manufacturer, sighting.product) if part)
    ids = ":".join(part for part in (sighting.vendor_id, sighting.product_id) if part)
    details = {
        "why": sighting.problem,
        "id": sighting.device_id,
        "port": sighting.port,
        "links": "\n             ".join(sighting.links),
        "usb": " ".join(part for part in (usb, f"({ids})" if ids else "") if part),
        "serial no.": sighting.serial_number,
        "profile": sighting.profile,
        "press mode": sighting.press_mode,
        "can": ", ".join(sighting.can),
        "button": sighting.why.get("mute_button") if sighting.can else None,
    }
    lines += [f"  {key + ':':<11}{value}" for key, value in details.items() if value]
    return "\n".join(lines) + "\n"


def _vendor_product(text: str) -> tuple[str, str]:
    import re

    ids = re.fullmatch(r"(?:0x)?([0-9a-f]{4}):(?:0x)?([0-9a-f]{4})", text.lower())
    if ids is None:
        raise argparse.ArgumentTypeError(f"{text!r}: two times four hexadecimal digits, such as 046d:0a37")
    return ids[1], ids[2]


def _explain_descriptors(args: argparse.Namespace) -> int:
    from mutebridge.descriptor_report import DescriptorReportError, reports

    try:
        for report in reports(args.descriptor, args.vendor_product, as_json=args.json):
            _say(report)
    except DescriptorReportError as error:
        _complain(f"mutebridge devices: {error}\n")
        return error.exit_code
    return os.EX_OK


# --- pair


def _pair(args: argparse.Namespace) -> int:
    from mutebridge import pair

    return pair.main(args, _load(args.config))


def _controller_page(args: argparse.Namespace) -> int:
    from mutebridge import controller_page

    return controller_page.main(args, _load(args.config))


# --- what several commands have


def _add_config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="by default /etc/mutebridge/mutebridge.yaml")


def _add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program that reads it")


def _load(path: Path | None) -> "Config":
    from mutebridge import config as configuration

    try:
        return configuration.load(path)
    except configuration.ConfigError as error:
        raise _Ended(_tell_config_error(error)) from None


def _tell_config_error(error: "ConfigError") -> int:
    from mutebridge.config import ConfigFileError
    from mutebridge.edges import journal_log

    mark = "<3>" if journal_log.is_journal(sys.stderr, os.environ) else ""
    _complain("".join(f"{mark}{problem}\n" for problem in error.problems))
    if isinstance(error, ConfigFileError):
        return os.EX_NOPERM if error.errno in (errno.EACCES, errno.EPERM) else os.EX_NOINPUT
    return os.EX_CONFIG


def _of(module: str, function: str) -> Callable[[Any], Any]:
    """Return a function of a module that is imported only when the function is called."""

    def call(argument: Any) -> Any:
        return getattr(import_module(module), function)(argument)

    return call


def _say(text: str) -> None:
    """Write to standard output now, so that a reader who went away is noticed here."""
    if sys.stdout is None:
        raise _Ended(os.EX_IOERR)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_stdout()
        _complain(f"mutebridge: cannot write to standard output: {error.strerror}\n")
        raise _Ended(os.EX_IOERR) from None


def _complain(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)


def _forget_stdout() -> None:
    """What is left in the buffer cannot be written; let the interpreter's end not try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


_RECORD_EXAMPLES = """\
examples:
  mutebridge devices                                  which one is it?
  mutebridge record /dev/hidraw3 my-headset.rec
  mutebridge record my-headset-0012 - | gzip > my-headset.rec.gz

Stop the service first (systemctl stop mutebridge). A call is then played to
the headset, and you are asked to press its buttons, some twenty times in two
minutes. What it sends, what is written to its lamps and what you did goes to
the file, and nothing else: no sound, nothing about you. With it, a headset
whose light or mute button misbehaves can be mended by somebody who lacks it.

exit status: 65 nothing that could be recorded, 66 no such device, 69 it was
unplugged, 73 the file cannot be written, 75 another program holds the device,
77 no permission
"""

_DOCTOR_EXAMPLES = """\
examples:
  sudo mutebridge doctor
  mutebridge doctor --json | jq -r '.checks[] | select(.state == "problem") | .remedy'

It changes nothing and may run beside the service, whose user's rights it
checks; as root it sees more. What it tries at the broker is acted on by nobody.
A softphone in a call is listened to for as long as its heartbeat takes, usually
five seconds.

--json is {"state", "checks": [{"name", "state", "finding", "remedy", "about"}]}
with remedy and about null where there is none. States are ok, warning, problem,
not_applicable and cannot_tell; that of the whole is the worst of the first
three. Names are those that it prints; a check may come several times, with
another thing that it is about.

exit status: 0 ok, 1 warning, 2 problem, as monitoring plugins have it; another
one when it could not examine: 64 wrong usage, 70 a bug
"""

_COMMANDS = {
    "run": _Command(
        "run the bridge; this is what the service does",
        _add_run_arguments,
        _run,
        "examples:\n"
        "  mutebridge run\n"
        "  mutebridge run --config ./mutebridge.yaml --log-level debug\n"
        "  mutebridge run --embedded-broker     no broker is installed\n\n"
        "SIGHUP (systemctl reload) reads the configuration again; a wrong one is told and the old one stays.",
    ),
    "check": _Command(
        "check the configuration and print it in full, with every default",
        _add_check_arguments,
        _check,
        "examples:\n"
        "  mutebridge check --config ./mutebridge.yaml\n"
        "  mutebridge check --json | jq .broker.host\n\n"
        "What it prints is a configuration again; only a password is shown as ***. Ends with 78 when something is\n"
        "wrong; each line then says file:line:column, the key, what is wrong and what is allowed.",
    ),
    "devices": _Command(
        "list the buttons that are plugged in, and why one is not used",
        _add_devices_arguments,
        _devices,
        "examples:\n"
        "  mutebridge devices\n"
        "  mutebridge devices --json\n"
        "  mutebridge devices --descriptor /sys/class/hidraw/hidraw0/device/report_descriptor\n"
        "  hid-recorder | mutebridge devices --descriptor - --json\n"
        "  mutebridge devices --descriptor '05 0b 09 05 a1 01 ...' --vendor-product 046d:0a37\n"
        "  mutebridge devices --hwdb > 70-mutebridge.hwdb\n\n"
        "It opens no device, so it may run beside the service. What --descriptor reads may be a binary file, what\n"
        "hid-recorder, usbhid-dump, hexdump or xxd prints, hexadecimal, or an array in a\n"
        "program. Ends with 65 when that is broken, and says at which byte.",
    ),
    "doctor": _Command(
        "find out what is wrong, and what is to be done",
        _of("mutebridge.doctor", "add_arguments"),
        _of("mutebridge.doctor", "main"),
        _DOCTOR_EXAMPLES,
    ),
    "record": _Command(
        "record a headset that misbehaves, so that it can be mended",
        _of("mutebridge.recorder", "add_arguments"),
        _of("mutebridge.recorder", "main"),
        _RECORD_EXAMPLES,
    ),
    "pair": _Command(
        "let a softphone's controller in: a link, JSON or environment",
        _of("mutebridge.pair", "add_arguments"),
        _pair,
        "examples:\n"
        "  mutebridge pair --link https://softphone.example.com/agent\n"
        "  mutebridge pair --json --origin https://softphone.example.com\n"
        "  mutebridge pair --env > softphone.env\n"
        "  mutebridge pair --broker wss://broker.example.com:8884 --station desk-17 --json \\\n"
        "      --password-file /etc/mosquitto/mutebridge.passwd --acl-file /etc/mosquitto/mutebridge.acl\n"
        "  mutebridge pair --revoke\n\n"
        "Each time a new password is made up, and the one before is worth nothing. What is printed is a secret.",
    ),
    "lights-off": _Command(
        "darken every button, after a daemon that could not",
        _of("mutebridge.lights_off", "add_arguments"),
        _of("mutebridge.lights_off", "main"),
        "Stop the service first (systemctl stop mutebridge); systemd runs this by itself whatever ended the daemon.\n"
        "Ends with 75 when a device that is there could not be told.",
    ),
    "controller-page": _Command(
        "serve a softphone page on this machine, to try a button with",
        _of("mutebridge.controller_page", "add_arguments"),
        _controller_page,
        "examples:\n"
        "  mutebridge controller-page --open\n"
        "  mutebridge controller-page --port 0\n\n"
        "It needs `mutebridge run --embedded-broker`, with which it pairs the page. Only this machine reaches it.",
    ),
    "simulate": _Command(
        "be a softphone without audio, to try a button with",
        _of("mutebridge.controller.simulator", "add_arguments"),
        _of("mutebridge.controller.simulator", "main"),
        "example:\n  mutebridge simulate",
    ),
    "controller": _Command(
        "connect a softphone that has an API of its own",
        _of("mutebridge.controller.genesys_cloud.command", "add_arguments"),
        _of("mutebridge.controller.genesys_cloud.command", "main"),
        "examples:\n"
        "  mutebridge controller genesys-cloud login --region eu-central-1 --client-id 0123...\n"
        "  mutebridge controller genesys-cloud --region eu-central-1 --client-id 0123...\n"
        "  mutebridge controller genesys-cloud --region eu-central-1 --token-file /run/secrets/token\n\n"
        "It needs no page and no SDK, only a user's login; a client credentials grant has no user, so it cannot mute.\n"
        "Ends with 78 when nobody is logged in. A login that ends later is told in the log and waited for.",
    ),
    "demo": _Command(
        "show it all at work: a broker, a softphone, a virtual button",
        _of("mutebridge.demo", "add_arguments"),
        _of("mutebridge.demo", "main"),
        "examples:\n"
        "  sudo mutebridge demo       with a virtual headset, too, where the kernel has the module uhid\n"
        "  mutebridge demo            in a terminal: a live view, with keys\n"
        "  mutebridge demo | cat      a scripted call; ends with 0 only if every light told the truth",
    ),
}
