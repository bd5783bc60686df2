"""The reference names what the code has: every variable, entry, problem, metric and topic; and no link leads nowhere."""

import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import deploy.service  # noqa: F401 - declares its metrics
import ingest.metrics  # noqa: F401 - declares its metrics
import processors.metrics  # noqa: F401 - declares its metrics
import replay.metrics  # noqa: F401 - declares its metrics
from schemas.errors import REJECTIONS
from schemas.limits import LimitsConfig
from schemas.settings import VARIABLES, FileConfig, SourceConfig
from schemas.targets import ReplayConfig
from schemas.topics import SIDE_CONFIG

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
DEFAULT = ROOT / "deploy" / "redrive.toml"

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"```toml\n(# Modules.*?)```", re.DOTALL)


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def example() -> dict[str, object]:
    """The whole redrive.toml of the reference."""
    found = _BLOCK.search(page("configuration"))
    assert found
    return tomllib.loads(found[1])


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{plain}-{number}" if number else plain) in found:
            number += 1
        found.add(anchor)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        to = (path.parent / name).resolve() if name else path
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_table_is_whole(path: Path) -> None:
    """A line of cells that no header stands above is shown as it is written."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for table in re.findall(r"\n\n((?:\|.*\n)+)", text):
        rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines()]
        assert len(rows) > 1, table
        assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in rows[1]), table
        assert {len(row) for row in rows} == {len(rows[1])}, table


def test_every_page_is_in_the_table_of_contents() -> None:
    linked = set(_LINK.findall((ROOT / "docs" / "README.md").read_text()))
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/*/*.md")}
    assert pages - linked == set()


def test_every_variable_is_in_the_configuration() -> None:
    text = page("configuration")
    assert {name for name in VARIABLES if f"`{name}`" not in text} == set()


def test_the_example_of_redrive_toml_has_every_entry_and_is_one_that_the_code_takes() -> None:
    found = FileConfig.model_validate({**example(), "plugins": ()})
    assert set(example()) == set(FileConfig.model_fields)
    given = {name for config in found.sources.values() for name in config.model_fields_set}
    assert given == set(SourceConfig.model_fields)
    assert found.limits.model_fields_set == set(LimitsConfig.model_fields)
    assert found.replay.model_fields_set == set(ReplayConfig.model_fields)


def test_the_defaults_of_limits_are_what_the_example_says() -> None:
    found = FileConfig.model_validate({**example(), "plugins": ()}).limits
    fields = {name for name, field in LimitsConfig.model_fields.items() if field.default}
    assert {name: getattr(found, name) for name in fields} == {name: getattr(LimitsConfig(), name) for name in fields}


def test_the_annotated_default_has_every_entry() -> None:
    text = DEFAULT.read_text()
    entries = {*SourceConfig.model_fields, *LimitsConfig.model_fields}
    assert {name for name in entries if not re.search(rf"^# {name} = ", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("code", REJECTIONS)
def test_every_problem_is_in_the_reference_with_its_status(code: str) -> None:
    status, _ = REJECTIONS[code]
    assert re.search(rf"^\| {status} \| [^|]*`{code}`", page("http"), re.MULTILINE)


def test_every_metric_is_in_the_reference() -> None:
    suffix = {"counter": "_total"}
    ours = {
        metric.name + suffix.get(metric.type, "") for metric in REGISTRY.collect() if metric.name.startswith("redrive_")
    }
    assert ours
    assert {name for name in ours if f"`{name}`" not in page("metrics")} == set()


def test_every_topic_is_in_the_reference() -> None:
    assert {name for name in SIDE_CONFIG if f"`{name}`" not in page("topics-and-headers")} == set()
