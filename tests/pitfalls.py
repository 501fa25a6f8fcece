"""The table pitfall → test → state, from the markers on the tests (tests/marked.py says how).

python -m tests.pitfalls            # collects, runs nothing
python -m tests.pitfalls --run      # runs each marked test
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from tests import marked

COUNT: Final = 128

# What depositd leaves to its operators, in the words of the README's table; all else has a test.
OUT_OF_SCOPE: Final[Mapping[int, str]] = {
    14: "Tokens whose balances change without transfers (rebasing, shares): don't list them.",
    15: "Issuers who upgrade, pause or freeze a token are not watched: make the coin INACTIVE.",
    28: "Validator withdrawals belong to no transaction and make no deposits.",
    29: "Fees and block rewards of EVM networks make no deposits.",
    30: "Balances that change in a chain's own ways are not noticed: compare them with your books.",
    53: "Polygon's blocks before Madhugiri do not prove: lower `verify`, with `quorum = 2`.",
    116: "Networks whose deposits are told apart by tags or memos are not followed.",
    123: "Deposits are not compared with balances on chain: `GET /v1/totals` has their sums.",
    125: "Senders are not screened: hold amounts by `maxAutoAmount`, look, then release.",
    127: "A token's supply is not watched: if it is minted without end, make the coin INACTIVE.",
}

if __name__ == "__main__":
    reasons = {number: f"out of scope: {why}" for number, why in OUT_OF_SCOPE.items()}
    sys.exit(marked.main(marked.Marked("pitfall", COUNT, prefix="P", untested=reasons)))
