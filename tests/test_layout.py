"""Imports go one way, and what is built is what stands here.

Source of the rules: the design's "Layout". Imports for annotations alone (`if TYPE_CHECKING`) bind
nothing at run time and are left out.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from indexer.database import SCHEMA_FILE

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("indexer", "callbacks")
# Where everything is put together; nothing else knows them, and they alone know callbacks.
COMMANDS: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "indexer" / "commands").glob("[!_]*.py")
}
COMPOSITION: Final = COMMANDS | {
    f"indexer.{name}" for name in ("__main__", "cli", "demo", "demo_receivers", "engine")
}
# What callbacks may know: settings, database (its secrets and its bell with it) and nouns …
FOUNDATION: Final = {
    f"indexer.{name}" for name in ("bell", "config", "database", "model", "secret")
}
# … and its routes also what all routes share, which is none of the indexer's resources.
ROUTING: Final = {
    f"indexer.api.{name}"
    for name in (
        "concealed",
        "context",
        "delivery",
        "errors",
        "inputs",
        "operation",
        "pages",
        "shapes",
    )
}
CHAIN_LIBRARIES: Final = {"web3", "tronpy", "bitcoinrpc", "zmq"}
INPUT_OUTPUT: Final = {"aiohttp", "asyncio", "asyncpg", "os", "pathlib", "socket", "structlog"}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Modules that a module imports while it runs, ours by their full names."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return frozenset(name for node in running(tree) for name in named(node))


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, but what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from running(child)


def named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute, so that these tests can read them"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in modules() else str(node.module)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] in PACKAGES}


def test_only_the_composition_knows_callbacks() -> None:
    for module in modules():
        if module.startswith("indexer") and module not in COMPOSITION:
            assert not [name for name in ours(module) if name.startswith("callbacks")], module


def test_callbacks_know_settings_database_and_nouns_only() -> None:
    for module in modules():
        if module.startswith("callbacks"):
            allowed = FOUNDATION | (ROUTING if module.startswith("callbacks.api") else set())
            foreign = {name for name in ours(module) if name.startswith("indexer")}
            assert foreign <= allowed, module


def test_nothing_knows_what_puts_it_together() -> None:
    for module in modules():
        if module not in COMPOSITION:
            assert not ours(module) & COMPOSITION, module


def test_an_adapter_knows_the_nouns_and_the_port_only() -> None:
    for module in modules():
        if module.startswith("indexer.chains"):
            foreign = {name for name in ours(module) if not name.startswith("indexer.chains")}
            assert foreign <= {"indexer.model"}, module


@pytest.mark.parametrize("library", sorted(CHAIN_LIBRARIES))
def test_chain_libraries_stay_behind_the_port(library: str) -> None:
    for module in modules():
        if not module.startswith(("indexer.chains", "indexer.devnet")):
            used = {name for name in imports(module) if name.split(".")[0] == library}
            assert not used, module


def test_the_nouns_do_no_input_or_output() -> None:
    assert not {name.split(".")[0] for name in imports("indexer.model")} & INPUT_OUTPUT
    assert not ours("indexer.model")


def test_no_import_goes_round_in_a_circle() -> None:
    # A package's __init__ is run by any import of what is in it, but needs none of it here.
    TopologicalSorter({module: ours(module) - {module} for module in modules()}).prepare()


def test_the_reader_of_imports_sees_them() -> None:
    assert "callbacks.dispatcher" in imports("indexer.engine")
    assert "indexer.config" in imports("indexer.installation")
    assert "indexer.chains" not in imports("indexer.model")  # for annotations alone


def test_every_package_is_built() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {module for module, path in modules().items() if path.name == "__init__.py"}
    assert set(settings["tool"]["setuptools"]["packages"]) == packages


def test_the_schema_that_is_built_is_the_one_at_the_top() -> None:
    assert SCHEMA_FILE.samefile(ROOT / "schema.sql")
