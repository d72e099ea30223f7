"""Which web pages may speak to a port of this machine.

Any page that a person visits can send requests to loopback. A browser says in `Origin` whose page it is, and in `Host`
by which name it found the machine: a name of somebody else's that was made to point here (DNS rebinding) is not one of
this machine's. Other programs send no Origin.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

_OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def origin_of(url: str) -> str:
    """Return the origin of a page as browsers write it: `https://host`, with the port where it is not the usual one.

    ValueError for what has no origin.
    """
    parts = urlsplit(url)
    host = parts.netloc.lower().rpartition("@")[2]
    name = re.sub(r":\d*$", "", host)
    if not parts.scheme or not _HOST.fullmatch(name):
        raise ValueError(f"{url!r} is no origin of a page, such as https://softphone.example.com")
    number = parts.port  # ValueError above 65535
    shown = "" if number in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{number}"
    return f"{parts.scheme}://{name}{shown}"


def is_own_host(hosts: Sequence[str]) -> bool:
    """Whether a request's Host headers name this machine's loopback, whatever the port; there has to be just one."""
    return len(hosts) == 1 and re.sub(r":\d+$", "", hosts[0].strip().lower()) in _OWN_HOSTS
