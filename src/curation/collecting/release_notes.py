"""Release notes (reStructuredText, Markdown or plain text) -> paragraphs that may describe one API update each.

Headings and bullets split the text. A paragraph or bullet that ends in a colon introduces the bullets after it and is
repeated in each of them; other nested bullets stay with their parent. Paragraphs under a heading that itself names an
API are joined. What does not look like an API change, by its words alone, is left out before a model reads the rest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

LONGEST = 4000  # characters; a longer text is not a single update

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
    indent: int = -1  # of a bullet

    @property
    def id(self) -> str:
        """Eight hex digits, of the headings and the text."""
        return hashlib.sha256("\0".join((*self.section, self.text)).encode("utf-8", "replace")).hexdigest()[:8]


class BlockReader:
    """Reads the lines of release notes; the state is the headings above and the block that is being read."""

    def __init__(self, text: str) -> None:
        self.lines = [line.expandtabs(4).rstrip() for line in text.splitlines()]
        self.found: list[Paragraph] = []
        self.headings: list[tuple[int, str]] = []
        self.marks: list[str] = []  # underlines (and overlines) in order of appearance: their rank is the level
        self.start, self.indent = 0, -1
        self.held: list[str] = []
        self.blank, self.fenced, self.over = True, False, ""

    def read(self) -> list[Paragraph]:
        """The paragraphs and bullets, before leads and parents are joined to them."""
        at = 0
        while at < len(self.lines):
            at += self.read_line(at)
        self.close()
        return self.found

    def read_line(self, at: int) -> int:
        """Read the line and whatever belongs to it; how many lines that were."""
        line, following = self.lines[at], self.lines[at + 1] if at + 1 < len(self.lines) else ""
        is_fence = line.lstrip().startswith("```")
        if self.fenced or is_fence:
            self.fenced ^= is_fence
            self.start = self.start if self.held else at
            self.held.append(line)
        elif not line:
            self.blank = True
        elif found := HEADING.match(line):
            self.read_heading(len(found[1]), found[2])
        elif UNDERLINE.match(line):  # an overline, or a rule between parts
            self.close()
            self.blank, self.over = True, line[0]
        elif self.blank and (line[0] != " " or self.over) and UNDERLINE.match(following) and not BULLET.match(line):
            mark = following[0] + self.over
            if mark not in self.marks:
                self.marks.append(mark)
            self.read_heading(10 + self.marks.index(mark), line.strip())
            return 2
        else:
            self.read_text(at, line)
        return 1

    def read_heading(self, level: int, title: str) -> None:
        self.close()
        self.headings = [(other, name) for other, name in self.headings if other < level] + [(level, title)]
        self.blank, self.indent, self.over = True, -1, ""

    def read_text(self, at: int, line: str) -> None:
        bullet, self.over = BULLET.match(line), ""
        margin = len(line) - len(line.lstrip())
        continues = self.held and (not self.blank or margin > max(self.indent, 0))
        if bullet and not (continues and self.indent < 0 and not self.blank):  # "- " inside a paragraph is a dash
            self.open(at, len(bullet[1]), bullet[2])
        elif continues:
            self.held += [""] * self.blank + [line[min(margin, self.indent + 2) if self.indent >= 0 else 0 :]]
        else:
            self.open(at, -1, line)
        self.blank = False

    def open(self, at: int, indent: int, text: str) -> None:
        self.close()
        self.start, self.indent, self.held = at, indent, [text]

    def close(self) -> None:
        if self.held:
            section = tuple(title for _, title in self.headings)
            self.found.append(Paragraph(self.start + 1, section, "\n".join(self.held).strip(), self.indent))
            self.held = []


def separator(before: Paragraph, block: Paragraph) -> str | None:
    """What joins a block to the one before it if both are one candidate: a nested bullet, or text about one API."""
    if 0 <= before.indent < block.indent:
        return "\n- "
    is_text = before.indent < 0 and block.indent < 0
    return "\n\n" if is_text and block.section and NAME.search(block.section[-1]) else None


def paragraphs(text: str) -> list[Paragraph]:
    """The candidates: leads repeated in their bullets, nested bullets with their parent, one API's text joined."""
    found: list[Paragraph] = []
    leads: list[Paragraph] = []  # the open ones, outermost first
    blocks = BlockReader(text).read()
    for block, following in zip(blocks, [*blocks[1:], None], strict=False):
        leads = [lead for lead in leads if lead.indent < block.indent and lead.section == block.section]
        is_followed = following and following.section == block.section and following.indent > block.indent
        since = leads[-1].line if leads else 0
        before = found[-1] if found and found[-1].section == block.section else None
        if block.text.endswith(":") and is_followed:
            leads.append(block)
        elif before and before.line > since and (between := separator(before, block)):
            found[-1] = replace(before, text=f"{before.text}{between}{block.text}")
        else:
            found.append(replace(block, text="\n".join((*(lead.text for lead in leads), block.text))))
    return found


def reason(paragraph: Paragraph) -> str | None:
    """Why the paragraph does not look like one API change; None if it does."""
    if any(OTHER_SECTION.search(title) and not NAME.search(title) for title in paragraph.section):
        return "in a section about something else"
    if len(paragraph.text) > LONGEST:
        return f"longer than {LONGEST} characters"
    heading = re.sub(r"\bchanges\b", "", " ".join(paragraph.section[-1:]), flags=re.IGNORECASE)  # no evidence
    words = WEB.sub("", f"{heading}\n{paragraph.text}")
    if not NAME.search(words):
        return "names no API"
    if not CHANGE.search(words):
        return "no word about a change"
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
