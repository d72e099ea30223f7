"""The password, from wherever the settings say."""

import os
from pathlib import Path

from mutebridge.edges.broker.problems import CannotConnectError, Problem, ProblemKind
from mutebridge.edges.broker.settings import MAX_PASSWORD_BYTES, BrokerSettings


def read_password(settings: BrokerSettings) -> str | None:
    """Return it as it is now; one line break at its end is not part of it. CannotConnectError says what to mend."""
    if settings.password_credential:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            message = (
                f"password_credential {settings.password_credential!r}: $CREDENTIALS_DIRECTORY is not set; give the"
                " service LoadCredential= in its unit, or use password_file"
            )
            raise CannotConnectError(Problem(ProblemKind.PASSWORD_UNREADABLE, message))
        path = Path(directory, settings.password_credential)
    elif settings.password_file:
        path = Path(settings.password_file)
    else:
        return settings.password
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PASSWORD_BYTES + 2)
        password = data.decode().removesuffix("\n")
        why = "" if len(password.encode()) <= MAX_PASSWORD_BYTES else f"it is longer than {MAX_PASSWORD_BYTES} bytes"
        why = why if password else "it is empty"
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        why = getattr(error, "strerror", None) or str(error)
    if not why:
        return password
    message = f"cannot read the password from {path}: {why}"
    raise CannotConnectError(Problem(ProblemKind.PASSWORD_UNREADABLE, message))
