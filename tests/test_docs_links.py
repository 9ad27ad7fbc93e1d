"""Links of the pages lead somewhere, as they are read in the repository."""

import re
from pathlib import Path

import pytest

from tests.docs_pages import DOCS, ROOT

PAGES = [
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


def links_of(text: str) -> list[str]:
    """Targets of the links of a page, its code left out."""
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "code", text, flags=re.DOTALL)
    return _LINK.findall(text)


def anchors_of(text: str) -> set[str]:
    """Anchors that headings have in the repository: letters, digits, hyphens."""
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*#*$", text, re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        copies = [slug, *(f"{slug}-{n}" for n in range(1, 50))]
        found.add(next(copy for copy in copies if copy not in found))
    return found


def broken_links(page: Path, text: str) -> list[str]:
    return [link for link in links_of(text) if not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors_of(target.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text()) == []


def test_broken_links_are_found():
    page = DOCS / "page.md"
    good = "[a](your-data.md#files) ![b](figures/samples.png) [c](../README.md) `[d](no.md)`"
    assert broken_links(page, f"{good}\n\n```\n[e](no.md)\n```\n<!-- [f](no.md) -->") == []
    bad = "[a](nowhere.md) [b](your-data.md#nothing) [`c`](figures/no.png) [d](/etc/hosts)"
    assert broken_links(page, bad) == [
        "nowhere.md",
        "your-data.md#nothing",
        "figures/no.png",
        "/etc/hosts",
    ]


def test_every_page_can_be_reached():
    """From the first page, as a reader of the repository goes: by links."""
    reached, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md" or not page.is_relative_to(DOCS):
            continue
        reached.add(page)
        names = [link.partition("#")[0] for link in links_of(page.read_text())]
        ahead += [(page.parent / name).resolve() for name in names if name]
    assert (
        sorted(str(p.relative_to(DOCS)) for p in set(PAGES) - reached if p.is_relative_to(DOCS))
        == []
    )
