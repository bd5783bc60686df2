"""Records that a broker takes and the Kafka client can't read: no client as it is writes them."""

import struct
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

_MARK = b"NAMENAME"
_CRC_AT = 17


async def produce_unreadable(servers: str, topic: str, partition: int) -> int:
    """Append a record with a header name that is not UTF-8. Returns its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"{}", timestamp=None, headers=[(_MARK.decode(), b"x")])
        batch.close()
        build = batch._build

        def patched(*args: Any, **options: Any) -> bytes:
            data = bytearray(build(*args, **options))
            at = data.index(_MARK)
            data[at : at + len(_MARK)] = b"\xff\xfe\xfd" + _MARK[3:]
            struct.pack_into(">I", data, _CRC_AT, calc_crc32c(bytes(data[_CRC_AT + 4 :])))
            return bytes(data)

        batch._build = patched
        written = await (await producer.send_batch(batch, topic, partition=partition))
        return int(written.offset)
    finally:
        await producer.stop()
