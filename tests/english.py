"""The English of code and documents: `python -m tests.english` names every form that CONTRIBUTING ("English") rules out.

It reads the strings and comments of the product, and the paragraphs and tables of the documentation.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("schemas", "ingest", "processors", "replay", "deploy")

HABITS: Final = {
    r"(?:^|(?<=[.:;] ))(?:Who|What|Whoever|Of|Whether|So (?:long|many|much|few|far))(?= [a-z`])(?![^.]*\?)": "the noun",
    r"(?<!here )\b(?:is|are|was|were) (?:no|none)\b(?! (?:longer|more|one|such))": "`invalid X` or `is not a …`",
    r"\banew\b": "`again`, `from the start` or `a new …`",
    r"\b(?:go|goes|gone|going|went) on with\b|\b(?:take|takes|taken|took) up\b": "`resume` or `continue`",
    r"\boutside of\b": "`outside`",
    r"\b(?:is|are|was|were|be|as) (?:told|said)\b(?! apart| from)": "`reported`, `shown`, `set` or `given`",
    r"\bmend(?:s|ed|ing)?\b": "`fix` or `repair`",
    r"\bby hand of\b": "`by` or `with`",
    r"\b(?:give|gives|given|gave) (?:it |them )?room\b": "`free some space`",
    r"\b(?:stands?|stood)\b(?!-)": "`is`",
    r"\b(?:has|have|had) (?:it|them) in hand\b": "the process and its work",
}
"""Pattern -> the better form."""


def of_code(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every string with a space, and of every run of comment lines; `x` replaces a formatted value."""
    tree = ast.parse(source)
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for one in formatted for part in ast.walk(one)}
    for one in formatted:
        yield one.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in one.values)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value
            and id(node) not in parts
        ):
            yield node.lineno, node.value
    run: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            run.append(token)
        elif token.type != tokenize.NL and run:
            yield run[0].start[0], " ".join(one.string.lstrip("# ") for one in run)
            run = []


def of_document(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every paragraph, item and row of Markdown, without headings, code and addresses of links."""
    text = re.sub(r"^```.*?^```$|^#.*?$", lambda found: "\n" * found[0].count("\n"), source, flags=re.S | re.M)
    for found in re.finditer(r"(?:^(?!\s*$).+\n?)(?:^(?!\s*$|\s*(?:[-*|>]|\d+\.) ).+\n?)*", text, flags=re.M):
        plain = re.sub(r"`[^`]*`", "`x`", re.sub(r"\]\([^)]*\)", "]", found[0]))
        yield text.count("\n", 0, found.start()) + 1, re.sub(r"^\s*(?:[-*|>]|\d+\.) +", "", plain)


def faults(texts: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """(line, what to write instead of what) of each habit; paragraphs of a docstring are separate texts."""
    for line, text in texts:
        for paragraph in re.split(r"\n[ \t]*\n", text):
            flat = " ".join(paragraph.split())
            for habit, better in HABITS.items():
                for found in re.finditer(habit, flat):
                    yield line, f"“{flat[max(0, found.start() - 20) : found.end() + 30]}”: write {better}"


def main() -> int:
    """1 if there is a fault."""
    code = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    named = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in sorted([*code, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
        for line, fault in faults((of_code if path.suffix == ".py" else of_document)(path.read_text()))
    ]
    print("\n".join(named), file=sys.stderr)
    return 1 if named else 0


if __name__ == "__main__":
    sys.exit(main())
