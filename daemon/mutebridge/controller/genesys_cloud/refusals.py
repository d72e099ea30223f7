"""What a failed command is called at the button, and what the person there is told to do."""

from mutebridge.controller.genesys_cloud.api import ApiError, RateLimitedError
from mutebridge.controller.genesys_cloud.exchange import ExchangeError, NotSentError
from mutebridge.controller.genesys_cloud.login import SCOPES, LoginError
from mutebridge.controller.session_controller import Refused
from mutebridge.core.contract import CommandError

LOG_IN_AGAIN = "log in again with: mutebridge controller genesys-cloud login"


def refusal(trouble: Exception) -> Refused:
    """Return what to answer for what `Api.request` raised."""
    match trouble:
        case NotSentError(too_late=True):
            return Refused(CommandError.EXPIRED, f"nothing was done: {trouble}")
        case LoginError():
            return Refused(CommandError.NOT_ALLOWED, f"{trouble}; {LOG_IN_AGAIN}")
        case ApiError():
            return _refused_by_api(trouble)
        case ExchangeError() | RateLimitedError():
            return Refused(CommandError.FAILED, str(trouble))
        case _:
            raise trouble


def missing(error: ApiError) -> str:
    """Say which permission or scope is missing, and who can mend it."""
    kind = "scope" if "scope" in f"{error.code} {error.message}".lower() else "permission"
    if error.names:
        what = f"the {kind} {', '.join(error.names)}"
    else:
        what = f"a {kind} (needed are the scopes {', '.join(SCOPES)}, and the permissions of a phone user)"
    whom = "OAuth client" if kind == "scope" else "user's role"
    return f"Genesys Cloud refuses: the {whom} lacks {what}"


def _refused_by_api(error: ApiError) -> Refused:
    if error.missing_permission:
        return Refused(CommandError.MISSING_SCOPE, missing(error))
    if error.status == 401:
        return Refused(CommandError.NOT_ALLOWED, f"Genesys Cloud does not accept the login; {LOG_IN_AGAIN}")
    if error.status == 403:
        return Refused(CommandError.NOT_ALLOWED, f"{error}: most likely somebody else owns this call")
    if error.status in (404, 410):
        return Refused(CommandError.NOT_CONNECTED, f"Genesys Cloud does not know this call any more: {error}")
    return Refused(CommandError.FAILED, str(error))
