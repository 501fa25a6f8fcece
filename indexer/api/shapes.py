"""Kinds of text that answers are made of, as the OpenAPI document names them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from pydantic import Field

from indexer.model import format_time

_TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
_AMOUNT: Final = r"^\d+(\.\d+)?$"

Time: TypeAlias = Annotated[str, Field(pattern=_TIME, json_schema_extra={"format": "date-time"})]
Amount: TypeAlias = Annotated[
    str, Field(pattern=_AMOUNT, description="With exactly as many decimals as the coin has.")
]
Units: TypeAlias = Annotated[str, Field(pattern=r"^\d+$", description="Whole base units.")]


def optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
