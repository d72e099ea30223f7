"""The other end of the contract: what owns the softphone's microphone."""

from mutebridge.controller.session_controller import Refused, SessionController
from mutebridge.core.contract import CallState, CommandError
from mutebridge.edges.broker import BrokerSettings, TlsSettings

__all__ = ["BrokerSettings", "CallState", "CommandError", "Refused", "SessionController", "TlsSettings"]
