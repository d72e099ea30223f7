"""The other end of the contract: what owns the softphone's microphone."""

from mutebridge.controller.paired import Paired, paired_from_environment
from mutebridge.controller.session_controller import Refused, SessionController
from mutebridge.core.contract import CallState, CommandError
from mutebridge.edges.broker import BrokerSettings, TlsSettings

__all__ = [
    "BrokerSettings",
    "CallState",
    "CommandError",
    "Paired",
    "Refused",
    "SessionController",
    "TlsSettings",
    "paired_from_environment",
]
