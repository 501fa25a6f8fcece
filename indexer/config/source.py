"""Where settings come from and how a wrong one is told: TOML, the environment, one sentence each.

Knows pydantic's models only by their fields; which tables there are is `config`'s to say.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from indexer.model import Refused

ENV_PREFIX: Final = "DEPOSITD_"
ENV_NESTING: Final = "__"
KEY_MARK: Final = "[key]"  # pydantic's name for "the key itself" in an error's place

Place = tuple[str | int, ...]

# pydantic's types of errors, as sentences; `{…}` is filled from the error's context.
SENTENCES: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text in quotes",
    "string_unicode": "is not UTF-8 text",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "tuple_type": "must be a list",
    "path_type": "must be a path in quotes",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length}",
    "value_error": "{error}",
}


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises Refused: one sentence, with the line where it is known."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise Refused(f"{path} can't be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as problem:
        raise Refused(f"{path} is not TOML: {problem}") from None


def overlay(
    tables: dict[str, Any],
    environ: Mapping[str, str],
    root: type[BaseModel],
    networks: Mapping[str, type[BaseModel]],
) -> list[str]:
    """Put every DEPOSITD_ variable over the file's tables; return a warning for each unknown."""
    warnings = []
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX):
            continue
        path = name.removeprefix(ENV_PREFIX).lower().split(ENV_NESTING)
        found, annotation = _annotation(path, root, networks)
        if found:
            _put(tables, path, _value(environ[name], annotation))
        else:
            warnings.append(f"{name} is no setting of depositd and has no effect")
    return warnings


def _annotation(
    path: list[str], root: type[BaseModel], networks: Mapping[str, type[BaseModel]]
) -> tuple[bool, Any]:
    """Whether there is such a key, and the type of its value."""
    models = [root]
    if path[0] == "networks" and len(path) == 3 and path[1]:
        models, path = list(networks.values()), path[2:]
    elif len(path) == 2 and path[0] in root.model_fields and path[0] != "networks":
        inner = _model_in(root.model_fields[path[0]].annotation)
        models, path = [inner] if inner else [], path[1:]
    for model in models:
        if len(path) == 1 and path[0] in model.model_fields and path[0] != "id":
            return True, model.model_fields[path[0]].annotation
    return False, None


def _put(tables: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, key = path
    for parent in parents:
        below = tables.setdefault(parent, {})
        if not isinstance(below, dict):
            return  # the file has no table there, and that is the problem to report
        tables = below
    tables[key] = value


def _value(text: str, annotation: Any) -> Any:
    """A variable as the TOML value that it reads as, else (or where only text fits) as text."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = document.pop("value")
    only_text = _leaves(annotation) <= {str, Path, type(None)}
    return text if document or (only_text and not isinstance(value, str)) else value


def _leaves(annotation: Any) -> set[Any]:
    """The plain types that a value of this annotation may have."""
    if get_origin(annotation) is Annotated:
        return _leaves(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return {type(choice) for choice in get_args(annotation)}
    if get_origin(annotation) in (list, tuple, dict):
        return {get_origin(annotation)}
    parts = get_args(annotation)
    return set().union(*map(_leaves, parts)) if parts else {annotation}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The table that stands in a field of this annotation, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def sentences(error: ValidationError, model: type[BaseModel], place: Place) -> Iterator[str]:
    """A sentence for each problem of a table that stands at `place`."""
    for detail in error.errors(include_url=False, include_input=False):
        where = detail["loc"]
        if detail["type"] == "extra_forbidden":
            yield _unknown_key(model, place, where)
        else:
            # A network's id is the name of its table.
            shown_place = place if place and where == ("id",) else place + where
            yield f"{_dotted(shown_place)}: {_sentence(detail)}"


def _sentence(detail: ErrorDetails) -> str:
    template = SENTENCES.get(detail["type"])
    return detail["msg"] if template is None else template.format(**detail.get("ctx", {}))


def _unknown_key(model: type[BaseModel], place: Place, where: Place) -> str:
    table: type[BaseModel] | None = model
    for step in where[:-1]:
        if table is not None and isinstance(step, str):
            table = _model_in(table.model_fields[step].annotation)
    known = [key for key in (table.model_fields if table else ()) if key != "id"]
    key = str(where[-1])
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
    owner = _dotted(place + where[:-1])
    return f"{owner}: unknown key `{key}`; {hint}" if owner else f"unknown key `{key}`; {hint}"


def _dotted(place: Place) -> str:
    """`networks.ethereum.endpoints[0].url`"""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step != KEY_MARK:
            text += f".{step}" if text else step
    return text
