"""How long to wait before the next attempt to reconnect."""


def backoff_s(attempt: int, chance: float, *, first_s: float = 1.0, max_s: float = 60.0) -> float:
    """Return the wait before attempt 0, 1, 2, ...: full jitter; `chance` is in [0, 1).

    The bound doubles from `first_s` up to `max_s`. Full jitter spreads the clients of a restarted broker evenly.
    """
    return chance * min(max_s, first_s * 2.0 ** min(attempt, 32))
