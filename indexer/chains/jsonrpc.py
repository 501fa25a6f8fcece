"""JSON-RPC 2.0 over a `Transport`: batches whose replies are matched by id, all of them required.

Replies may come in any order, and some of them as errors (P66). What an overloaded node didn't
answer is asked for again; any other error is a `NodeError`. A node that takes no batches is
asked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from indexer.chains.rpc import ATTEMPTS, Endpoint, EndpointFailed, Overloaded, Transport

BATCH_CALLS: Final = 100  # of one HTTP request; geth takes 1,000
OVERLOADED_CODES: Final = (-32005, 429)  # EIP-1474 "limit exceeded"; some providers' own
UNSUPPORTED_CODES: Final = (-32601, -32004)  # no such method; EIP-1474 "method not supported"

T = TypeVar("T")


class Call(NamedTuple):
    method: str
    params: Sequence[Any]


class NodeError(EndpointFailed):
    """The node answered a call with an error."""

    def __init__(self, endpoint: Endpoint, method: str, code: int, said: str) -> None:
        super().__init__(f"{endpoint.name} answered {method} with error {code}: {said}")
        self.code = code
        self.said = said


class _Fault(msgspec.Struct):
    code: int
    message: str = ""


class _Reply(msgspec.Struct):
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")  # absent, unlike null
    error: _Fault | None = None


_replies: Final = msgspec.json.Decoder(list[_Reply] | _Reply)


class JsonRpc:
    """Calls to endpoints; each result comes back as JSON text, for its reader to decode."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def call(self, endpoint: Endpoint, method: str, params: Sequence[Any]) -> msgspec.Raw:
        return (await self.batch(endpoint, [Call(method, params)]))[0]

    async def batch(self, endpoint: Endpoint, calls: Sequence[Call]) -> list[msgspec.Raw]:
        """Each call's result, in the calls' order; raises EndpointFailed unless all are there."""
        results: list[msgspec.Raw] = []
        for answer in await self.answers(endpoint, calls):
            if isinstance(answer, NodeError):
                raise answer
            results.append(answer)
        return results

    async def answers(
        self, endpoint: Endpoint, calls: Sequence[Call]
    ) -> list[msgspec.Raw | NodeError]:
        """The same, with a NodeError in the place of each call that the node answers with one."""
        answers: list[msgspec.Raw | NodeError] = []
        while len(answers) < len(calls):
            size = BATCH_CALLS if endpoint.batches else 1
            part = calls[len(answers) : len(answers) + size]
            replies = await self._ask(endpoint, part)
            if replies is not None:  # else it refused the batch as such
                answers += replies
        return answers

    async def _ask(
        self, endpoint: Endpoint, calls: Sequence[Call]
    ) -> list[msgspec.Raw | NodeError] | None:
        """The calls' answers; those that met an overloaded node are asked for again."""
        answers: dict[int, msgspec.Raw | NodeError] = {}
        for attempt in range(ATTEMPTS):
            missing = [at for at in range(len(calls)) if at not in answers]
            replies = await self._exchange(endpoint, [calls[at] for at in missing])
            if replies is None:
                return None
            for at, reply in zip(missing, replies, strict=True):
                if reply.error is None:
                    answers[at] = reply.result
                elif reply.error.code in OVERLOADED_CODES:
                    self._cool(endpoint, reply.error, last=attempt == ATTEMPTS - 1)
                else:
                    said = endpoint.clean(reply.error.message)
                    answers[at] = NodeError(endpoint, calls[at].method, reply.error.code, said)
            if len(answers) == len(calls):
                break
        return [answers[at] for at in range(len(calls))]

    def _cool(self, endpoint: Endpoint, error: _Fault, *, last: bool) -> None:
        """Let an overloaded node rest; Overloaded if it was asked often enough."""
        self._transport.cool(endpoint)
        if last:
            said = endpoint.clean(error.message)
            raise Overloaded(f"{endpoint.name} is overloaded (error {error.code}: {said})")

    async def _exchange(self, endpoint: Endpoint, calls: Sequence[Call]) -> list[_Reply] | None:
        """One HTTP request. The replies in the calls' order; None if the node takes no batches."""
        ids = range(1, len(calls) + 1)  # so that the same calls are the same bytes
        questions = [
            {"jsonrpc": "2.0", "id": id_, "method": call.method, "params": call.params}
            for id_, call in zip(ids, calls, strict=True)
        ]
        single = len(questions) == 1
        body = msgspec.json.encode(questions[0] if single else questions)
        answer = _decode(endpoint, await self._transport.post(endpoint, body))
        if isinstance(answer, _Reply):
            if single:
                return _match(endpoint, ids, [answer])
            self._batch_failed(endpoint, len(calls), answer)
            return None
        return _match(endpoint, ids, answer)

    def _batch_failed(self, endpoint: Endpoint, calls: int, answer: _Reply) -> None:
        """One reply to a whole batch: the node is overloaded, or takes no batches."""
        if answer.error is None:
            raise EndpointFailed(f"{endpoint.name} answered {calls} calls with one result")
        if answer.error.code in OVERLOADED_CODES:
            self._cool(endpoint, answer.error, last=True)
        endpoint.batches = False


def decode(endpoint: Endpoint, raw: msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """A result as its reader's type; raises EndpointFailed where it has another shape."""
    with shaped(endpoint):
        return decoder.decode(raw)


@contextmanager
def shaped(endpoint: Endpoint) -> Iterator[None]:
    """What decoders raise over an endpoint's answers is EndpointFailed."""
    try:
        yield
    except (msgspec.DecodeError, RecursionError) as error:
        said = endpoint.clean(str(error))
        raise EndpointFailed(f"{endpoint.name} answered in an unknown shape: {said}") from None


def _decode(endpoint: Endpoint, body: bytes) -> list[_Reply] | _Reply:
    try:
        answer: list[_Reply] | _Reply = _replies.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        said = endpoint.clean(str(error))
        raise EndpointFailed(f"{endpoint.name} answered no valid JSON-RPC: {said}") from None
    return answer


def _match(endpoint: Endpoint, ids: Sequence[int], replies: Sequence[_Reply]) -> list[_Reply]:
    by_id = {reply.id: reply for reply in replies}
    if len(replies) != len(ids) or by_id.keys() != set(ids):
        raise EndpointFailed(
            f"{endpoint.name} answered {len(by_id.keys() & set(ids))} of {len(ids)} calls"
        )
    for reply in by_id.values():
        if reply.error is None and not memoryview(reply.result).nbytes:
            raise EndpointFailed(f"{endpoint.name} answered a call with neither result nor error")
    return [by_id[id_] for id_ in ids]
