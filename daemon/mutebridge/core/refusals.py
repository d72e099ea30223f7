"""What the errors of the contract mean to a person, and what to do about them."""

from mutebridge.core.contract import CommandError, Result

MUTE_ADVICE = {
    CommandError.NOT_CONNECTED: "the softphone says that its call is not connected",
    CommandError.NOT_ALLOWED: "the softphone refused although the call is connected: another program or person owns the"
    " call, or a permission is missing",
    CommandError.MISSING_SCOPE: "the softphone's login lacks a permission: ask the administrator to grant the scope",
    CommandError.EXPIRED: "it arrived too late: look at the network, and at the clocks if this repeats",
    CommandError.STALE: "the call or its microphone changed in between: press again",
    CommandError.FAILED: "the softphone failed",
}
HOOK_ADVICE = {
    **MUTE_ADVICE,
    CommandError.NOT_CONNECTED: "the softphone says that there is no such call any more",
    CommandError.NOT_ALLOWED: "the softphone refused: another program or person owns the call, or a permission is"
    " missing",
    CommandError.STALE: "the call changed in between",
}


def refusal(result: Result, advice: dict[CommandError, str]) -> tuple[str, str]:
    """Return the error, in a word and in words for the person."""
    error = result.error or CommandError.FAILED
    return error.value, f"{advice[error]} ({result.detail})" if result.detail else advice[error]
