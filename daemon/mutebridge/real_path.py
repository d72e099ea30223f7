"""Where the links of a path lead, while devices come and go.

`os.path.realpath`, and with it `Path.resolve`, raises FileNotFoundError when a link leaves between two of its looks,
also where it need not exist (Python 3.11 and 3.12).
"""

import os


def real_path(path: str | os.PathLike[str]) -> str:
    """Return `path` with its links resolved as far as there are any; never raises."""
    try:
        return os.path.realpath(path)
    except OSError:  # the link is gone, so it leads nowhere
        return os.path.abspath(path)  # noqa: PTH100
