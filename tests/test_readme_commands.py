"""Every example of the README runs in a test: here its settings and what is typed at a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from indexer import cli, config
from tests.readme import blocks, chapters, commands, languages

MAKEFILE: Final = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
# By chapter, the languages of its examples that a test runs; "" are commands.
RUN: Final = {
    "The demo": {""},  # here; the demo itself: test_demo
    "A real configuration": {"", "toml"},  # here; its requests: api/test_api_readme
    "Receiving callbacks": {"", "sql", "python", "js", "go"},  # test_readme
    "The API": {"python"},  # api/test_api_readme
    "Proofs of a deposit": {"python"},  # test_proofs
    "When something happens": {""},  # here; carried out: test_operating
    "Developing": {""},  # here
}
DRAWN: Final = {"How it works", "States of a deposit"}  # "" is a drawing there
SHELL: Final = [chapter for chapter, kinds in RUN.items() if "" in kinds]


def test_every_example_is_one_that_a_test_runs() -> None:
    for chapter in chapters():
        kinds = languages(chapter) - ({""} if chapter in DRAWN else set())
        assert kinds == RUN.get(chapter, set()), chapter


def test_every_command_is_one_that_there_is() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    known = 0
    for words in (each for chapter in SHELL for each in commands(chapter)):
        while re.fullmatch(r"\w+=.*", words[0]):  # of the environment
            words = words[1:]
        match words:
            case ["make", *asked]:
                assert set(asked) <= verbs, words
            case [".venv/bin/depositd", *asked]:
                cli.parser().parse_args(asked)
            case _:
                assert words[0] in ("curl", "pg_dump", "pg_restore", "psql"), words
        known += 1
    assert known > 10


def test_the_settings_load_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "depositd.toml"
    file.write_text("".join(blocks("toml", "A real configuration")), encoding="utf-8")
    settings = config.load(file, {})
    assert settings.warnings == ()
    families = {name: network.family for name, network in settings.networks.items()}
    assert families == {"ethereum": "evm", "tron": "tron", "bitcoin": "utxo"}
