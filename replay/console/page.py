"""The overview page, as one document without scripts. Pure."""

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Final

import asyncpg

from schemas.masking import mask_text

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>redrive</title><style>
:root { color-scheme: light dark; --line: #8884; --dim: #888; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { color: var(--dim); margin: .2rem 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.number, th.number { text-align: right; }
.dead { color: #c33; font-weight: 600; } .ignored { color: var(--dim); }
</style></head><body>
<h1>redrive</h1><p>Every webhook on the log before it is answered; the tables are a pure function of the log.</p>
<h2>Events</h2>$events
<h2>Folded</h2>$positions
</body></html>
""")


_LOGIN: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>redrive</title><style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 20vh auto; max-width: 24rem; padding: 0 1rem; }
input, button { font: inherit; padding: .4rem .6rem; width: 100%; box-sizing: border-box; margin-top: .5rem; }
.wrong { color: #c33; }
</style></head><body><h1>redrive</h1>
<form method="post" action="/login"><label>Admin API key
<input name="key" type="password" autocomplete="current-password" autofocus required></label>
<button>Log in</button></form>$note
<p>On this machine it is <code>ADMIN_API_KEY</code> in <code>.redrive/env</code>.</p></body></html>
"""


def render_login(note: str = "") -> str:
    return _LOGIN.replace("$note", f'<p class="wrong">{escape(note)}</p>' if note else "")


def render_overview(
    sources: Sequence[str], counts: Sequence[asyncpg.Record], positions: Sequence[asyncpg.Record]
) -> str:
    """Events by source, type and status; records folded by topic."""
    rows = [
        f"<tr><td>{escape(row['source'])}</td><td>{escape(mask_text(row['type']))}</td>"
        f'<td class="{escape(row["status"])}">{escape(row["status"])}</td><td class="number">{row["events"]:,}</td>'
        f"<td>{row['last_received_at']:%Y-%m-%d %H:%M:%S} UTC</td></tr>"
        for row in counts
    ]
    silent = sorted(set(sources) - {row["source"] for row in counts})
    rows += [f'<tr><td>{escape(name)}</td><td colspan="4" class="ignored">no event yet</td></tr>' for name in silent]
    head = '<tr><th>Source</th><th>Type</th><th>Status</th><th class="number">Events</th><th>Last received</th></tr>'
    folded = [
        f'<tr><td>{escape(row["topic"])}</td><td class="number">{row["records"]:,}</td></tr>' for row in positions
    ]
    return _PAGE.substitute(
        events=f"<table>{head}{''.join(rows)}</table>",
        positions='<table><tr><th>Topic</th><th class="number">Records</th></tr>' + "".join(folded) + "</table>",
    )
