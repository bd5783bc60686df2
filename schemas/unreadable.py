"""Records whose bytes the Kafka client can't read. Must not import the client: it knows the errors by their names."""

from typing import Final

_CLIENT: Final = "aiokafka"
_OF_BYTES: Final = frozenset({"CorruptRecordException", "UnsupportedCodecError"})
"""The client's own errors about what a broker gave it; the others are about brokers."""


def is_unreadable(error: Exception) -> bool:
    """True if the bytes of a record are at fault: for those, the client raises any error of its parser."""
    kind = type(error)
    if kind.__module__.partition(".")[0] == _CLIENT:
        return kind.__name__ in _OF_BYTES
    return not isinstance(error, OSError)
