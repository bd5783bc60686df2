"""House rule: a file has at most 300 lines, so that a reader holds it in mind."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "ingest", "processors", "replay", "deploy", "tests", "bench")


def test_no_file_is_longer_than_300_lines() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 500
    longer = {
        str(path.relative_to(ROOT)): lines for path in files if (lines := len(path.read_text().splitlines())) > 300
    }
    assert longer == {}
