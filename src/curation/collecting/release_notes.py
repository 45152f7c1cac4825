"""Release notes (reStructuredText, Markdown or plain text) -> paragraphs that may describe one API update each.

Headings and bullets split the text. A paragraph or bullet that ends in a colon introduces the bullets after it and is
repeated in each of them; other nested bullets stay with their parent. Paragraphs under a heading that itself names an
API are one. `reason` then says why a paragraph does not look like a change of an API, by words alone: a coarse sieve
before the model reads what is left.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

LONGEST = 4000  # characters; more is no single update

# A name of code: in backticks, with a dot between identifiers, called, or in snake case.
NAME = re.compile(r"`[^`\n]*[A-Za-z_]{2}[^`\n]*`|\b[A-Za-z_]\w+\.[A-Za-z_]\w*|\b[A-Za-z_]\w*\(|\b[a-z]\w*_\w+\b")
CHANGE = re.compile(
    r"\b(deprecat\w+|remov(?:ed|es|al)|renam\w+|replac\w+|no longer|instead|in favou?r of|moved|relocated|expired"
    r"|dropped|defaults?|chang(?:ed|es)|must"
    r"|now (?:an? )?(?:return|rais|require|emit|yield|accept only|error|mandatory|positional|keyword)\w*"
    r"|keyword-only|positional-only|signature|incompatible|breaking|disallow\w*|forbid\w*|not allowed)\b",
    re.IGNORECASE,
)
OTHER_SECTION = re.compile(
    r"\b(contributors?|authors?|acknowledg\w*|thanks|pull requests|issues closed|documentation|docs|build\w*"
    r"|continuous integration|maintenance|internals?|tests?|testing|packaging|bug ?fix(?:es)?|fixed|new features?)\b",
    re.IGNORECASE,
)
WEB = re.compile(r"https?://\S+|<[^<> ]+://[^<> ]+>")

HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}\s*$")
BULLET = re.compile(r"(\s*)(?:[-*+•]|\d{1,3}[.)])\s+(\S.*)$")


@dataclass(frozen=True)
class Paragraph:
    """One candidate: the line where it starts (from 1), the headings above it, outermost first, and its text."""

    line: int
    section: tuple[str, ...]
    text: str

    @property
    def id(self) -> str:
        """Eight hex digits, of the headings and the text."""
        return hashlib.sha256("\0".join((*self.section, self.text)).encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(frozen=True)
class Block:
    """A paragraph (indent -1) or a bullet, before leads and parents are joined to it."""

    paragraph: Paragraph
    indent: int


def blocks(text: str) -> Iterator[Block]:
    """The paragraphs and bullets of the text in order, code blocks with the text before them."""
    lines = [line.expandtabs(4).rstrip() for line in text.splitlines()]
    headings: list[tuple[int, str]] = []
    marks: list[str] = []  # underlines (and overlines) in order of appearance: their rank is the heading's level
    start, indent, held, blank, fenced, over = 0, -1, [], True, False, ""

    def done() -> Iterator[Block]:
        if held:
            section = tuple(title for _, title in headings)
            yield Block(Paragraph(start + 1, section, "\n".join(held).strip()), indent)
            held.clear()

    number = 0
    while number < len(lines):
        line, following = lines[number], lines[number + 1] if number + 1 < len(lines) else ""
        here, number = number, number + 1
        if fenced or line.lstrip().startswith("```"):
            fenced ^= line.lstrip().startswith("```")
            start = start if held else here
            held.append(line)
            continue
        if not line:
            blank = True
            continue
        title, level = None, 0
        if found := HEADING.match(line):
            level, title = len(found[1]), found[2]
        elif UNDERLINE.match(line):  # an overline, or a rule between parts
            yield from done()
            blank, over = True, line[0]
            continue
        elif blank and (line[0] != " " or over) and UNDERLINE.match(following) and not BULLET.match(line):
            mark = following[0] + over
            if mark not in marks:
                marks.append(mark)
            title, level, number = line.strip(), 10 + marks.index(mark), number + 1
        if title is not None:
            yield from done()
            headings = [(other, name) for other, name in headings if other < level] + [(level, title)]
            blank, indent, over = True, -1, ""
            continue
        bullet, over = BULLET.match(line), ""
        margin = len(line) - len(line.lstrip())
        goes_on = held and (not blank or margin > max(indent, 0))
        if bullet and not (goes_on and indent < 0 and not blank):  # "- " inside a running paragraph is a dash
            yield from done()
            start, indent = here, len(bullet[1])
            held.append(bullet[2])
        elif goes_on:
            held += [""] * blank + [line[min(margin, indent + 2) if indent >= 0 else 0 :]]
        else:
            yield from done()
            start, indent = here, -1
            held.append(line)
        blank = False
    yield from done()


def paragraphs(text: str) -> list[Paragraph]:
    """The candidates: leads repeated in their bullets, nested bullets with their parent, one API's text joined."""
    found: list[Block] = []
    leads: list[Block] = []  # the open ones, outermost first
    everything = list(blocks(text))
    for at, block in enumerate(everything):
        one, following = block.paragraph, everything[at + 1] if at + 1 < len(everything) else None
        leads = [lead for lead in leads if lead.indent < block.indent and lead.paragraph.section == one.section]
        same = following is not None and following.paragraph.section == one.section
        if one.text.endswith(":") and same and following.indent > block.indent:
            leads.append(block)
            continue
        parent = found[-1] if found else None
        since = leads[-1].paragraph.line if leads else 0
        beside = parent is not None and parent.paragraph.section == one.section and parent.paragraph.line > since
        nested = beside and 0 <= parent.indent < block.indent
        of_one_api = beside and parent.indent < 0 and block.indent < 0 and one.section and NAME.search(one.section[-1])
        if nested or of_one_api:
            mark, gap = ("- ", "\n") if nested else ("", "\n\n")
            joined = replace(parent.paragraph, text=f"{parent.paragraph.text}{gap}{mark}{one.text}")
            found[-1] = Block(joined, parent.indent)
            continue
        whole = "\n".join((*(lead.paragraph.text for lead in leads), one.text))
        found.append(Block(replace(one, text=whole), block.indent))
    return [block.paragraph for block in found]


def reason(paragraph: Paragraph) -> str | None:
    """Why the paragraph does not look like one change of an API; None where it does."""
    if any(OTHER_SECTION.search(title) and not NAME.search(title) for title in paragraph.section):
        return "in a section about something else"
    if len(paragraph.text) > LONGEST:
        return f"longer than {LONGEST} characters"
    heading = re.sub(r"\bchanges\b", "", " ".join(paragraph.section[-1:]), flags=re.IGNORECASE)  # says nothing
    words = WEB.sub("", f"{heading}\n{paragraph.text}")
    if not NAME.search(words):
        return "names no API"
    if not CHANGE.search(words):
        return "no word of a change"
    return None


def sieve(text: str) -> list[tuple[Paragraph, str | None]]:
    """Every paragraph with the reason why it is left out, or None; a repeated text is left out."""
    seen: set[str] = set()
    out = []
    for one in paragraphs(text):
        key = " ".join(one.text.split())
        out.append((one, "repeats an earlier paragraph" if key in seen else reason(one)))
        seen.add(key)
    return out
