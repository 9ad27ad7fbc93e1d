"""One HTML page that needs nothing else: its style, script, data and pictures are inside.

Every page of this package is made here: `document` forbids a page to fetch anything, and to run
another script than its own, in words that browsers keep to (a content security policy).
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.runtime import atomic

# Colours and letters that pages share; dark where the reader's system is.
STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --paper: #fff; --soft: #f3f4f6; --line: #d3d7de;
  --faint: #566070; --accent: #0b5cad; --good: #1b7a4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --paper: #14171c; --soft: #1f242c; --line: #3a424e; --faint: #a3acba;
    --accent: #7db8f5; --good: #5fca93; --bad: #ff8f86; } }
* { box-sizing: border-box; }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 88rem;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; line-height: 1.2; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; }
.verdict { padding: .7rem 1rem; border-left: .4rem solid; background: var(--soft);
  overflow-wrap: anywhere; }
.passed { border-color: var(--good); } .failed { border-color: var(--bad); }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; }
"""


def document(title: str, body: str, *, style: str = STYLE, script: str = "") -> str:
    """The whole page.

    Args:
        title: plain text.
        body: HTML, in which text from elsewhere is already escaped.
        style, script: of this package, never a user's.
    """
    script = f"\n{script.strip()}\n" if script else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def write(path: Path, text: str) -> Path:
    """Write a page in one stroke; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, text.encode())
    return path


def checked_page(path: str | Path, caller: str = "report") -> Path:
    """The path of a page.

    Raises:
        ValueError: its suffix promises something else than HTML.
    """
    target = checked_path(caller, "path", path)
    if target.suffix not in (".html", ".htm"):
        raise ValueError(f"{caller}({str(path)!r}): writes HTML; name a file such as report.html")
    return target


def data_uri(content: bytes, kind: str) -> str:
    """The address of something that is inside the page, such as a picture ``image/png``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def data_block(name: str, value: Any) -> str:
    """JSON for the script of the page, which finds it by its name; no text in it can end it.

    Raises:
        ValueError: it holds NaN or infinity, which JSON has not.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{html.escape(name)}">{text}</script>'


def bullets(lines: Iterable[str]) -> str:
    """A list of plain texts; nothing where there are none."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, raw: bool = False) -> str:
    """A table of plain texts; `raw` cells may hold entities, from the second column on."""

    def cell(value: Any, place: int) -> str:
        text = str(value)
        return f"<td>{text if raw and place else html.escape(text)}</td>"

    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(cell(value, k) for k, value in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"
