"""Every link and anchor of the pages leads somewhere, and docs/ builds into a site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
FENCED = re.compile(r"^(?:```.*?^```|(?: {4}|\t).*?$)", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets outside of code, those of other hosts left out."""
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text("utf-8")))
    found = [match[1] for match in LINK.finditer(text)]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(
        r"^#{1,6} +(.+?) *$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE
    )
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return set(slugs)


def broken(page: Path) -> list[str]:
    lost = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(f"{page.name}: {target}")
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading, `x`\n[a](#one-heading-x) [b](gone.md) ![c](page.md#gone) `[d](gone)`\n\n"
        "    [e](gone)\n\n[f](https://example.org/gone)\n"
    )
    assert broken(page) == ["page.md: gone.md", "page.md: page.md#gone"]


def test_every_page_is_listed():
    listed = set(links(ROOT / "docs" / "README.md"))
    pages = {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"}
    assert pages - listed == set()


def test_every_named_document_exists():
    """README names pages in backticks too."""
    named = set(re.findall(r"`(docs/[\w.-]+)`", "".join(page.read_text("utf-8") for page in PAGES)))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_site_builds(tmp_path):
    """With mkdocs' own check of links and anchors; and no page loads from another host."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r'(?:src|rel="stylesheet"[^>]*href)="https?://[^"]+', text), page
