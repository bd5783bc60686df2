"""Whoever floods one source must not starve the others by what is written of it: all is counted, little is logged."""

import logging
import time

import pytest
from prometheus_client import REGISTRY

from ingest import metrics


def counted(source: str) -> float:
    labels = {"source": source, "code": "too_many_requests"}
    return REGISTRY.get_sample_value("redrive_ingest_rejections_total", labels) or 0.0


def test_a_flood_of_refusals_is_a_line_a_second_for_each_source_and_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redrive.ingest")
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(500):
        metrics.rejected("flooded", "too_many_requests")
    metrics.rejected("flooded", "signature_missing")
    metrics.quarantined("calm", "signature_mismatch")
    now += metrics.LOG_SECONDS
    metrics.rejected("flooded", "too_many_requests")
    lines = [(vars(line)["source"], vars(line)["code"], vars(line)["unlogged"]) for line in caplog.records]
    assert lines == [
        ("flooded", "too_many_requests", 0),
        ("flooded", "signature_missing", 0),
        ("calm", "signature_mismatch", 0),
        ("flooded", "too_many_requests", 499),
    ]
    assert counted("flooded") == 501
