"""The programs that the bench compares, each with the command line that starts it on a station."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from tests.bench.private_broker import HOST, BenchError

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "daemon"
CONTROLLER = "softphone"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where a contender works: `ttys` are its buttons, `folder` is for its files, `programs` for what was compiled."""

    port: int
    prefix: str
    station: str
    ttys: Sequence[str]
    folder: Path
    programs: Path

    @property
    def root(self) -> str:
        return f"{self.prefix}/{self.station}"


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `notifies`: it tells the service manager when it is ready. `bridges`: it can be pressed."""

    key: str
    title: str
    command: Callable[[Site], list[str]]
    notifies: bool = False
    bridges: bool = True


def compile_programs(folder: Path) -> None:
    """Compile everything written in C into `folder`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchError("there is no C compiler (Debian packages gcc, libc6-dev)")
    for source in (HERE / "controller.c", HERE / "button.c", HERE / "rivals" / "bridge.c"):
        target = folder / source.stem
        done = subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode or done.stderr:
            raise BenchError(f"{source.name} does not compile cleanly:\n{done.stderr}")


def _where(site: Site) -> list[str]:
    return [HOST, str(site.port), site.root, *site.ttys]


def _script(name: str) -> Callable[[Site], list[str]]:
    return lambda site: [sys.executable, str(HERE / "rivals" / name), *_where(site)]


def _daemon(site: Site) -> list[str]:
    config = site.folder / "mutebridge.yaml"
    config.write_text(daemon_config(site))
    installed = Path(sys.executable).with_name("mutebridge")
    start = [str(installed)] if installed.exists() else [sys.executable, "-m", "mutebridge"]
    return [*start, "run", "--config", str(config)]


def daemon_config(site: Site) -> str:
    """The configuration file of the daemon: the station's broker, its buttons, nothing that is plugged in besides."""
    lines = [
        f"station: {site.station}",
        f"prefix: {site.prefix}",
        "known_devices: false",
        f"broker: {{host: {HOST}, port: {site.port}}}",
        "devices:",
    ]
    for number, tty in enumerate(site.ttys, 1):
        lines += [
            f"  - id: button-{number}",
            f"    port: {tty}",
            "    press_mode: toggle",
            "    serial:",
            "      toggle: press",
            '      send: {muted: muted, live: live, unknown: unknown, "off": "off"}',
            "      settle_s: 0",
        ]
    return "\n".join(lines) + "\n"


CONTENDERS = (
    Contender(key="daemon", title="mutebridge run", command=_daemon, notifies=True),
    Contender(
        key="c", title="(a) C, same job", command=lambda s: [str(s.programs / "bridge"), *_where(s)], notifies=True
    ),
    Contender(key="paho", title="(b) paho loop_start", command=_script("paho_afternoon.py")),
    Contender(key="aiomqtt", title="(c) aiomqtt", command=_script("aiomqtt_afternoon.py")),
    Contender(key="bare", title="bare imports + connect", command=_script("bare_start.py"), bridges=False),
)
