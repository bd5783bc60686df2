"""The shape and the least length of secrets: a secret of the wrong shape is refused before it verifies anything.

Must not quote a value: another secret may have been pasted there.
"""

import base64
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas.errors import Misconfigured

MIN_CHARACTERS: Final = 8
"""The least length of a secret that is used as text. Providers issue longer ones; a shorter one can be guessed."""

_PRIME: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _PRIME) % _PRIME
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""The y of the eight points whose order divides 8: under such a key anybody can make signatures."""


def check_token(secret: str, prefix: str = "") -> None:
    """Raises `Misconfigured` for what can be guessed, or was pasted with more than itself. A prefix that all secrets of
    a scheme have says nothing, and is not counted.
    """
    secret = secret.removeprefix(prefix)
    has_space = any(character.isspace() for character in secret)
    if len(secret) < MIN_CHARACTERS or not secret.isprintable() or has_space:
        where = f" after {prefix}" if prefix else ""
        raise Misconfigured(f"expected at least {MIN_CHARACTERS} printable characters{where}, and no white space")


@lru_cache(maxsize=256)
def ed25519_public_key(encoded: str) -> Ed25519PublicKey:
    """A key from the base64 of its 32 bytes. Raises `Misconfigured` if they are not a point of the curve, or are one
    of a small order.
    """
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32 or not _is_safe_point(raw):
        raise Misconfigured("expected an ed25519 public key: base64 of 32 bytes, a point of the curve")
    return Ed25519PublicKey.from_public_bytes(raw)


def _is_safe_point(raw: bytes) -> bool:
    """RFC 8032, 5.1.3: y below the prime, and an x to it. OpenSSL looks when it verifies, and takes small orders."""
    y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
    if y >= _PRIME or y in _SMALL_ORDER:
        return False
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _PRIME) % _PRIME
    return pow(x_squared, (_PRIME - 1) // 2, _PRIME) == 1
