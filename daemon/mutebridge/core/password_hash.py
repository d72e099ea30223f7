"""Password hashes as mosquitto's password file has them: `$7$iterations$salt$hash`, PBKDF2 with SHA-512.

Source: mosquitto's own `mosquitto_passwd`, since 2.0; salt and hash in base64. Its 101 iterations would be few for a
password that a person made up; those here are random, of 144 bits.
"""

import base64
import binascii
import hashlib
import hmac

SALT_BYTES = 12
_HASH_BYTES = 64
_ITERATIONS = 101
_MAX_ITERATIONS = 1_000_000


def hash_of(password: str, salt: bytes) -> str:
    """Return the hash of a password; `salt` is SALT_BYTES of chance."""
    digest = _digest(password, salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def fits(password: str, hashed: str) -> bool:
    """Whether it is the password of this hash; no password is that of one that cannot be read."""
    try:
        _, kind, iterations, salt, digest = hashed.split("$")
        rounds, expected = int(iterations), base64.b64decode(digest, validate=True)
        if kind != "7" or not 1 <= rounds <= _MAX_ITERATIONS or len(expected) != _HASH_BYTES:
            return False
        return hmac.compare_digest(_digest(password, base64.b64decode(salt, validate=True), rounds), expected)
    except (ValueError, binascii.Error):
        return False


def same(password: str, other: str) -> bool:
    """Whether two passwords are the same; how long that takes tells nothing about them."""
    return hmac.compare_digest(password.encode(), other.encode())


def _digest(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, _HASH_BYTES)
