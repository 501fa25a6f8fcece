"""Kinds of text that answers are made of, as the OpenAPI document names them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from pydantic import Field
from typing_extensions import TypedDict

from indexer.model import Reason, State, format_time

_TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
_AMOUNT: Final = r"^\d+(\.\d+)?$"

Time: TypeAlias = Annotated[str, Field(pattern=_TIME, json_schema_extra={"format": "date-time"})]
Amount: TypeAlias = Annotated[
    str, Field(pattern=_AMOUNT, description="With exactly as many decimals as the coin has.")
]
Units: TypeAlias = Annotated[str, Field(pattern=r"^\d+$", description="Whole base units.")]


class DepositData(TypedDict):
    """A deposit as its callbacks and the API show it: `model.view`."""

    id: str
    sequence: int
    account: str
    network: str
    coin: str
    symbol: str
    contractAddress: str | None
    decimals: int
    transactionHash: str
    ordinal: int
    fromAddress: str | None
    toAddress: str
    reference: str | None
    memo: str | None
    amount: Amount
    amountUnits: Units
    blockHeight: int
    blockHash: str
    blockTime: Time
    confirmations: int
    requiredConfirmations: int | None
    status: State
    previousStatus: State | None
    reason: Reason | None


class Event(TypedDict):
    """One step of a deposit's life; `id` is the `webhook-id` of its callbacks."""

    position: int
    id: str
    type: str
    timestamp: Time
    data: DepositData


def optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
