"""Release notes are split into paragraphs, and those without an API change are left out."""

from __future__ import annotations

import pytest

from curation.collecting.release_notes import Paragraph, paragraphs, reason, sieve

RST = """\
==========================
Tidemark 3.0 Release Notes
==========================

Deprecations
============

``tidemark.trapz`` has been deprecated
--------------------------------------
Use `tidemark.trapezoid` instead.

It takes the same arguments.

Removals
========

* ``tidemark.in1d``: use
  `tidemark.isin` instead
* These names are gone:

  - ``tidemark.cast``
  - ``tidemark.source``

* ``alltrue`` was removed

  * also from the stubs

    with a second paragraph

New words
=========

Nothing. ::

    code_block = here()
"""

MARKDOWN = """\
# Changelog
## 2.0
### Breaking changes
- `Client.proxies` was removed. Use `mounts`:
  ```python
  # not a heading

  Client(mounts={})
  ```
- Python 3.8 is no longer supported
Some text - with a dash
1. `Client.get(url)` must have a scheme
## 1.9
The default of `timeout` changed:

- it is 5 now
"""


def test_restructured_text():
    top = "Tidemark 3.0 Release Notes"
    assert [(one.line, one.section, one.text) for one in paragraphs(RST)] == [
        (
            *(10, (top, "Deprecations", "``tidemark.trapz`` has been deprecated")),
            "Use `tidemark.trapezoid` instead.\n\nIt takes the same arguments.",
        ),
        (17, (top, "Removals"), "``tidemark.in1d``: use\n`tidemark.isin` instead"),
        (21, (top, "Removals"), "These names are gone:\n``tidemark.cast``"),
        (22, (top, "Removals"), "These names are gone:\n``tidemark.source``"),
        (
            *(24, (top, "Removals")),
            "``alltrue`` was removed\n- also from the stubs\n\nwith a second paragraph",
        ),
        (33, (top, "New words"), "Nothing. ::\n\n    code_block = here()"),
    ]


def test_markdown():
    breaking = ("Changelog", "2.0", "Breaking changes")
    assert [(one.line, one.section, one.text) for one in paragraphs(MARKDOWN)] == [
        (
            *(4, breaking),
            "`Client.proxies` was removed. Use `mounts`:\n  ```python\n  # not a heading\n\n  Client(mounts={})\n  ```",
        ),
        (10, breaking, "Python 3.8 is no longer supported\nSome text - with a dash"),
        (12, breaking, "`Client.get(url)` must have a scheme"),
        (16, ("Changelog", "1.9"), "The default of `timeout` changed:\nit is 5 now"),
    ]


@pytest.mark.parametrize("text", ["", "\n \n", "- ", "#", "===", "\r\n\r\n"])
def test_text_without_paragraphs(text):
    assert [one for one, why in sieve(text) if why is None] == []


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        ("Changes", "`np.trapz` has been deprecated in favor of `np.trapezoid`.", None),
        ("Changes", "np.array now raises a ValueError where a copy is needed.", None),
        ("Changes", "The default of scale_by() is 1.", None),
        ("Changes", "set_output is keyword-only.", None),
        ("`np.sum` changed", "It has another result for empty input.", None),
        ("Changes", "Everything has changed.", "names no API"),
        ("Changes", "See https://example.org/a_b.html for what changed", "names no API"),
        ("Changes", "`np.fast` is faster.", "no word about a change"),
        ("Contributors", "`some_one` removed a typo", "in a section about something else"),
        ("Bug fixes", "`np.sum` no longer crashes", "in a section about something else"),
        ("Tests for `np.sum` removed", "They were slow.", None),  # a heading that names an API is looked into
        ("Changes", "`np.sum` changed. " * 300, "longer than 4000 characters"),  # 5,400 characters
    ],
)
def test_the_sieve_by_words(section, text, expected):
    assert reason(Paragraph(1, (section,), text)) == expected


def test_a_repeated_paragraph_is_asked_about_once():
    twice = "# A\n- `f_x` was removed\n# B\n- `f_x`  was removed\n"
    assert [why for _, why in sieve(twice)] == [None, "repeats an earlier paragraph"]
