"""Contract tests use the same rig as the integration tests."""

from tests.integration.conftest import read_topic, source_name

__all__ = ["read_topic", "source_name"]
