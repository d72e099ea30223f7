"""The lab's own proof for services and udev rules: a sandboxed unit reaches what a rule gives it, and no more."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.guest.firmware import PLAIN_HEADSET, Identity
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.uhid import Uhid
from tests.lab.guest.units import installed, shown, systemctl

UNIT = "proof.service"
GIVEN = Identity(product=0x000A, serial="GIVEN")
WITHHELD = Identity(product=0x000B, serial="WITHHELD")
RULE = 'SUBSYSTEM=="hidraw", KERNELS=="0003:1209:000A.*", GROUP="plugdev", MODE="0660"\n'


def sandboxed(*nodes: str) -> str:
    return f"""
[Service]
Type=notify
ExecStart=/usr/bin/python3 /repo/tests/lab/guest/service.py {" ".join(nodes)}
DynamicUser=yes
SupplementaryGroups=plugdev
DevicePolicy=closed
DeviceAllow=char-hidraw rw
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX
SystemCallFilter=@system-service
MemoryDenyWriteExecute=yes
CapabilityBoundingSet=
"""


@pytest.fixture
def rule() -> Iterator[None]:
    file = Path("/run/udev/rules.d/70-proof.rules")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(RULE)
    subprocess.run(["udevadm", "control", "--reload"], check=True)
    yield
    file.unlink()
    subprocess.run(["udevadm", "control", "--reload"], check=True)


@pytest.mark.usefixtures("rule")
def test_a_sandboxed_service_opens_what_the_rule_gives_it_and_nothing_else() -> None:
    with VirtualHeadset(Uhid(GIVEN, PLAIN_HEADSET)) as given, VirtualHeadset(Uhid(WITHHELD, PLAIN_HEADSET)) as withheld:
        given.plug()
        withheld.plug()
        Path("/dev/vda").chmod(0o666)  # so that it is the unit's device policy that keeps it closed
        with installed(UNIT, sandboxed(given.node, withheld.node, "/dev/vda")):
            systemctl("start", UNIT)
            found = json.loads(shown(UNIT, "StatusText"))
        assert found.pop("uid") >= 61184  # systemd's range for dynamic users
        assert found == {
            given.node: "open",
            withheld.node: "Permission denied",
            "/dev/vda": "Operation not permitted",
        }
