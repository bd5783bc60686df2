"""Several installations start their Kafkas from the same jars, at any time."""

from pathlib import Path

from deploy.embedded.kafka_jars import kafka_class_path


def test_jars_that_are_there_are_left_as_they_are() -> None:
    """Of one that is taken away for a moment, a Kafka that starts just then would know nothing."""

    def seen() -> dict[Path, int]:
        folders = [Path(entry).parent for entry in kafka_class_path()[1].split(":")]
        return {jar: jar.stat().st_ctime_ns for folder in folders for jar in folder.glob("*.jar")}

    before = seen()
    assert any("log4j-slf4j" in jar.name for jar in before)
    assert seen() == before
