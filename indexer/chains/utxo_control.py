"""The few questions about a node itself: which chain it is on, and what it can serve.

They go through python-bitcoinrpc, which blocks: each is asked in a thread, within a time limit, and
whatever goes wrong there is one of our own failures, without a word of the URL or its secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

from indexer.chains.rpc import Endpoint, EndpointFailed, TooSlow

CONTROL_SECONDS: Final = 20.0  # all of an endpoint's control calls
SILENCE_SECONDS: Final = 10  # between two pieces of an answer
ANSWER_BYTES: Final = 2**20  # of one control call

# The library insists on a user and a password in its URL, which it takes undecoded, and knows no
# other header: it is given this one, and a connection that knows the endpoint's.
_PLACEHOLDER: Final = "http://user:password@node"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself."""

    chain: str
    genesis: str
    version: int
    software: str
    blocks: int
    headers: int
    downloading: bool  # its first synchronisation
    pruned_to: int  # the lowest block that it still has


async def ask_facts(endpoint: Endpoint) -> NodeFacts:
    """Raises EndpointFailed; Refused is for the caller to judge."""
    wire = _Wire(endpoint)
    try:
        async with asyncio.timeout(CONTROL_SECONDS):
            return await asyncio.to_thread(_ask, endpoint, wire)
    except TimeoutError:
        raise TooSlow(f"{endpoint.name} gave no answer within {CONTROL_SECONDS:g} s") from None
    finally:
        wire.close()  # a thread that still waits for an answer ends with it


def _ask(endpoint: Endpoint, wire: _Wire) -> NodeFacts:
    proxy = AuthServiceProxy(_PLACEHOLDER, timeout=SILENCE_SECONDS, connection=wire)
    try:
        chain: dict[str, Any] = proxy.getblockchaininfo()
        network: dict[str, Any] = proxy.getnetworkinfo()
        return _facts(chain, network, proxy.getblockhash(0))
    except JSONRPCException as error:
        raise EndpointFailed(
            f"{endpoint.name} answered a control call with error {error.code}: "
            f"{endpoint.clean(str(error.message))}"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise EndpointFailed(f"{endpoint.name} {_reason(error)}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise EndpointFailed(
            f"{endpoint.name} answered a control call in an unknown shape"
        ) from None


def _facts(chain: Mapping[str, Any], network: Mapping[str, Any], genesis: object) -> NodeFacts:
    """Raises KeyError or TypeError where an answer has another shape."""
    facts = NodeFacts(
        chain=chain["chain"],
        genesis=genesis if isinstance(genesis, str) else "",
        version=network["version"],
        software=str(network.get("subversion", "")),
        blocks=chain["blocks"],
        headers=chain["headers"],
        downloading=bool(chain.get("initialblockdownload", False)),
        pruned_to=chain.get("pruneheight", 0) if chain.get("pruned", False) else 0,
    )
    numbers = (facts.version, facts.blocks, facts.headers, facts.pruned_to)
    if type(facts.chain) is not str or any(type(number) is not int for number in numbers):
        raise TypeError
    return facts


class _Answer(http.client.HTTPResponse):
    """An answer of bounded length, whose type has no parameters for the library to stumble on."""

    def getheader(self, name: str, default: Any = None) -> Any:
        value = super().getheader(name, default)
        return value.split(";")[0].strip() if isinstance(value, str) else value

    def read(self, amt: int | None = None) -> bytes:
        answer = super().read(ANSWER_BYTES + 1 if amt is None else amt)
        if len(answer) > ANSWER_BYTES:
            raise http.client.HTTPException("too long")
        return answer


class _Wire:
    """What the library takes for its connection: it sends what the endpoint's requests carry."""

    def __init__(self, endpoint: Endpoint) -> None:
        url = endpoint.at("")
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._http = kind(url.raw_host or "", url.port, timeout=SILENCE_SECONDS)
        self._http.response_class = _Answer
        self._target = url.raw_path_qs
        self._headers = endpoint.headers

    @property
    def sock(self) -> socket.socket:
        return self._http.sock

    def request(self, method: str, _: str, body: str, headers: Mapping[str, Any]) -> None:
        """Ask with the endpoint's headers; the library's own would carry its placeholder."""
        self._http.request(method, self._target, body.encode(), dict(self._headers))

    def getresponse(self) -> http.client.HTTPResponse:
        return self._http.getresponse()

    def close(self) -> None:
        """From another thread: whoever waits for an answer stops waiting."""
        if self._http.sock is not None:
            with contextlib.suppress(OSError):
                self._http.sock.shutdown(socket.SHUT_RDWR)
        self._http.close()


def _reason(error: OSError | http.client.HTTPException) -> str:
    match error:
        case TimeoutError():
            return f"gave no answer within {SILENCE_SECONDS} s"
        case ssl.SSLCertVerificationError():
            return "has a TLS certificate that is not valid"
        case socket.gaierror():
            return "can't be found: its name does not resolve"
        case OSError(errno=int(number)) if number > 0:
            return f"can't be reached: {os.strerror(number)}"
        case _:
            return f"can't be asked ({type(error).__name__})"
