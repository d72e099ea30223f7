"""A headless controller's settings, from the environment that `mutebridge pair --env` prints.

    paired = paired_from_environment()
    controller = SessionController(
        paired.station, paired.name, set_mute=phone.set_mute, broker=paired.broker, prefix=paired.prefix
    )

The variables are MUTEBRIDGE_BROKER (mqtt:// on this machine, mqtts:// elsewhere), _STATION, _NAME, _USERNAME, _PASSWORD
and, where they are not the usual ones, _PREFIX and _CA_FILE: the authorities to trust instead of the system's.
"""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from mutebridge.core.pairing import PROGRAM_SCHEMES, Pairing, check_broker
from mutebridge.edges.broker import BrokerSettings, TlsSettings

CA_FILE_VARIABLE = "MUTEBRIDGE_CA_FILE"


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Which controller this is, of which station, and how it reaches the broker."""

    station: str
    name: str
    prefix: str
    broker: BrokerSettings


def paired_from_environment(environ: Mapping[str, str] = os.environ) -> Paired:
    """Read the variables; ValueError says which one is missing or cannot be."""
    pairing = Pairing.from_environment(environ)
    check_broker(pairing.broker, PROGRAM_SCHEMES)
    url = urlsplit(pairing.broker)
    tls = TlsSettings(ca_file=environ.get(CA_FILE_VARIABLE) or None) if url.scheme == "mqtts" else None
    broker = BrokerSettings(
        host=url.hostname or "", port=url.port, username=pairing.username, password=pairing.password, tls=tls
    )
    return Paired(station=pairing.station, name=pairing.name, prefix=pairing.prefix, broker=broker)
