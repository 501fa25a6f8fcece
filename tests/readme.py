"""The README's examples, by the chapter that they stand in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

README: Final = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
_CHAPTER: Final = re.compile(r"^## (.*)\n", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def chapters() -> dict[str, str]:
    """Their texts, by title; what stands before the first is under ""."""
    parts = ["", *_CHAPTER.split(README)]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(language: str, chapter: str) -> list[str]:
    """The fenced blocks of a chapter; language "": commands, or a drawing."""
    found = [text for kind, text in _BLOCK.findall(chapters()[chapter]) if kind == language]
    assert found, f"{chapter!r} has no {language or 'commands'}"
    return found


def languages(chapter: str) -> set[str]:
    return {kind for kind, _ in _BLOCK.findall(chapters()[chapter])}


def commands(chapter: str) -> Iterator[list[str]]:
    """The words of each command of a chapter, comments left out; a quote may span lines."""
    for block in blocks("", chapter):
        waiting = ""
        for line in block.splitlines(keepends=True):
            waiting += line
            try:
                words = shlex.split(waiting, comments=True)
            except ValueError:  # its quote is still open
                continue
            waiting = ""
            if words:
                yield words
        assert not waiting, f"an open quote in {chapter!r}"
