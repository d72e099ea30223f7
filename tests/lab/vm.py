"""One virtual machine: qemu's emulation of Debian's own kernel, where USB, HID, udev and systemd are real.

A machine is booted once, its memory is saved while it idles, and every later one is restored from that in about a
second. What is restored must fit exactly, so the snapshot is cached under the image, the qemu version and its options.
The working tree is not part of it: it comes on a second disk, which is always of one size.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.lab import cache, image, installable, prerequisites, tree
from tests.lab.channel import Agent, GuestHungError, Lines, Message
from tests.lab.image import Say
from tests.lab.prerequisites import tool

RESTORE_S = 20.0
COLD_BOOT_S = 120.0  # 14 s on an idle host with two cores, 45 s on one that six others were building on
SAVE_S = 60.0
_LAST_LINES = 60  # a kernel panic with its stack

# The emulator even where /dev/kvm exists: in a nested host it may open and then run no guest. The microvm machine would
# boot faster, and hung in 6 of 15 boots.
_OPTIONS = (
    *("-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35", "-smp", "2", "-m", "512"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
    *("-append", "console=ttyS0 panic=-1 mitigations=off nokaslr quiet systemd.show_status=0"),
    *("-device", "virtio-blk-pci,drive=root", "-device", "virtio-blk-pci,drive=tree"),
    *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=mutebridge.lab"),
    *("-device", "virtio-rng-pci", "-mon", "chardev=monitor,mode=control"),
)


class VM:
    """A running machine; whoever made it closes it."""

    def __init__(self, image_folder: Path, wheels: Path | None, *, incoming: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mutebridge-lab-")
        folder = Path(self._folder.name)
        self._console = folder / "console"
        tree.pack(folder / "tree.tar", wheels)
        agent, agent_far = socket.socketpair()
        monitor, monitor_far = socket.socketpair()
        with agent_far, monitor_far, (folder / "qemu").open("wb") as complaints:
            wires = (
                *(
                    "-kernel",
                    image_folder / "vmlinux",
                    "-initrd",
                    image_folder / "initrd.gz",
                    "-serial",
                    f"file:{self._console}",
                ),
                *("-drive", f"file={image_folder}/root.ext4,format=raw,if=none,id=root,readonly=on"),
                *("-drive", f"file={folder}/tree.tar,format=raw,if=none,id=tree,readonly=on"),
                *("-chardev", f"socket,id=agent,fd={agent_far.fileno()}"),
                *("-chardev", f"socket,id=monitor,fd={monitor_far.fileno()}"),
                *(("-incoming", "defer") if incoming else ()),
            )
            self._qemu = subprocess.Popen(
                [*_dying_with_us(), tool("qemu-system-x86_64"), *_OPTIONS, *wires],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(agent_far.fileno(), monitor_far.fileno()),
            )
        self.agent = Agent(agent)
        self._monitor = Monitor(monitor)

    @classmethod
    def booted(cls, image_folder: Path, wheels: Path | None = None) -> Self:
        """A machine that went through a cold boot."""
        machine = cls(image_folder, wheels, incoming=False)
        with machine.closed_on_failure():
            machine.agent.wait_until_up(time.monotonic() + COLD_BOOT_S)
        return machine

    @classmethod
    def restored(cls, image_folder: Path, wheels: Path, saved: Path) -> Self:
        """A machine that goes on from its saved memory, with today's date and this tree."""
        machine = cls(image_folder, wheels, incoming=True)
        with machine.closed_on_failure():
            deadline = time.monotonic() + RESTORE_S
            machine._monitor.migrate("migrate-incoming", f"exec:{tool('zstd')} -dcq {saved}", deadline)
            machine._monitor.execute("cont", deadline)
            machine.agent.set_clock(deadline)
        return machine

    def unpack_tree(self) -> None:
        status, said = self.agent.shell("mkdir -p /repo && tar -xf /dev/vdb -C /repo")
        if status:
            raise GuestHungError(f"the tree could not be unpacked: {said}")

    def save(self, snapshot: Path) -> None:
        deadline = time.monotonic() + SAVE_S
        self.pause()
        self._monitor.execute("migrate-set-parameters", deadline, **{"max-bandwidth": 1 << 33})
        self._monitor.migrate("migrate", f"exec:{tool('zstd')} -1 -q -T0 >{snapshot}", deadline)

    def pause(self) -> None:
        """Stop the machine between two instructions: to its host it hangs."""
        self._monitor.execute("stop", time.monotonic() + RESTORE_S)

    def last_words(self) -> str:
        """The end of the console and of qemu's own complaints, for a machine that failed."""
        texts = (Path(self._folder.name, name) for name in ("console", "qemu"))
        lines = [line for text in texts if text.exists() for line in text.read_text(errors="replace").splitlines()]
        return "\n".join(lines[-_LAST_LINES:])

    def close(self) -> None:
        self._qemu.kill()
        self._qemu.wait()
        self.agent.close()
        self._monitor.close()
        self._folder.cleanup()

    @contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, GuestHungError):
                error.add_note(self.last_words())
            self.close()
            raise


class Monitor:
    """qemu's control socket (QMP): every command is answered once, events come in between."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = Lines(connection)
        self._greeted = False

    def execute(self, command: str, deadline: float, **arguments: object) -> None:
        if not self._greeted:
            self._greeted = True
            self._wait_for("QMP", deadline)
            self.execute("qmp_capabilities", deadline)
            events = [{"capability": "events", "state": True}]
            self.execute("migrate-set-capabilities", deadline, capabilities=events)
        self._lines.send({"execute": command, "arguments": arguments})
        self._wait_for("return", deadline)

    def migrate(self, command: str, uri: str, deadline: float) -> None:
        """Move the machine's memory out or in, which goes on after the command is answered."""
        self.execute(command, deadline, uri=uri)
        while True:
            status = self._wait_for("MIGRATION", deadline)["data"]["status"]
            if status == "failed":
                raise GuestHungError(f"{command} {uri} failed")
            if status == "completed":
                return

    def _wait_for(self, kind: str, deadline: float) -> Message:
        while True:
            message = self._lines.receive(deadline)
            if "error" in message:
                raise GuestHungError(f"qemu refused: {message['error']['desc']}")
            if kind in message or message.get("event") == kind:
                return message

    def close(self) -> None:
        self._lines.close()


def starter(say: Say) -> Callable[[bool], VM]:
    """What starts machines, with all built that they need; raises `PrerequisiteError`.

    After a hang the next machine goes through a cold boot, in case it is the snapshot that is bad.
    """
    prerequisites.require(to_build=not image.is_built(), say=say)
    booting = image.image(say)
    saved = snapshot(booting, say)
    wheels = installable.wheels(say)
    return lambda again: start(booting, wheels, None if again else saved)


def start(image_folder: Path, wheels: Path, saved: Path | None) -> VM:
    """A machine with the tree at /repo: restored, or booted where there is no snapshot."""
    machine = VM.restored(image_folder, wheels, saved) if saved else VM.booted(image_folder, wheels)
    with machine.closed_on_failure():
        machine.unpack_tree()
    return machine


def snapshot(image_folder: Path, say: Say) -> Path:
    """The saved memory of a machine that has booted and idles, made unless it is cached."""
    key = cache.digest("snapshot", image.image_key(), qemu_version(), _OPTIONS, tree.DISK_BYTES)

    def make(folder: Path) -> None:
        say("lab: booting the machine once, to save it")
        try:
            _boot_and_save(image_folder, folder / "idle.zst")
        except GuestHungError as hung:
            say(f"lab: it hung and is booted once more: {hung}")
            _boot_and_save(image_folder, folder / "idle.zst")

    return cache.made("snapshot", key, make) / "idle.zst"


def _boot_and_save(image_folder: Path, file: Path) -> None:
    machine = VM.booted(image_folder)
    with machine.closed_on_failure():
        machine.agent.shell("systemctl is-system-running --wait; udevadm settle; sync")
        machine.save(file)
    machine.close()


def qemu_version() -> str:
    return subprocess.run([tool("qemu-system-x86_64"), "--version"], capture_output=True, text=True, check=True).stdout


def _dying_with_us() -> Sequence[str]:
    """A killed test run must leave no machine behind."""
    return (tool("setpriv"), "--pdeathsig", "KILL", "--")
