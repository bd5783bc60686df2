"""What is a record's fault, and what a broker's: a broker that is away must not make a record unreadable."""

import zlib

import pytest
from aiokafka import errors

from schemas.unreadable import is_unreadable


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        zlib.error(),
        ValueError(),
        MemoryError(),
        errors.CorruptRecordException(),
        errors.UnsupportedCodecError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_parser_raises_is_the_records_fault(error: Exception) -> None:
    assert is_unreadable(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.KafkaConnectionError(),
        errors.ConsumerStoppedError(),
        errors.OffsetOutOfRangeError(),
        errors.TopicAuthorizationFailedError(),
        TimeoutError(),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_broker_or_the_network_does_is_not(error: Exception) -> None:
    assert not is_unreadable(error)
