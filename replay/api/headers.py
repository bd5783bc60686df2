"""Headers of every answer of the console: nothing is framed, sniffed, cached, or loaded from elsewhere."""

import base64
import hashlib
import re
from typing import Final

from aiohttp import web

_NOTHING: Final = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action"
_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "redrive",
}


def page(html: str, status: int = 200) -> web.Response:
    """A page that may use the styles that it brings, and submit to where it came from. No scripts."""
    hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in _STYLE.findall(html)]
    styles = " ".join(f"'sha256-{one}'" for one in hashes)
    headers = {"Content-Security-Policy": f"{_NOTHING} 'self'; style-src {styles}"}
    return web.Response(text=html, content_type="text/html", status=status, headers=headers)


async def protect(_: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: answers that no handler of ours made are covered, too."""
    response.headers.update(_ALWAYS)
    response.headers.setdefault("Content-Security-Policy", f"{_NOTHING} 'none'")
