"""The table pitfall → test → state, from the markers on the tests (tests/marked.py says how).

python -m tests.pitfalls            # collects, runs nothing
python -m tests.pitfalls --run      # runs each marked test
"""

from __future__ import annotations

import sys

from tests import marked

COUNT = 128

# Why a pitfall has no test yet. What is not here and has no test is simply open.
LATER = {
    12: "credited from Transfer logs alone; ERC-777's Sent is another topic",
    14: "out of scope: rebasing tokens are not to be listed",
    15: "out of scope: watch the issuer's events; an inactive coin holds deposits",
    16: "mirrors of the native coin are denied; two entry points: list one",
    18: "unlisted tokens make no rows",
    28: "validator withdrawals have no transaction and are not deposits",
    29: "fees and block rewards are not deposits",
    30: "reconciliation is outside this engine",
    31: "reconciliation is outside this engine",
    32: "deposit keys are outside this engine",
    53: "Polygon's blocks before Madhugiri do not prove: README",
    54: "finality is the node's own",
    63: "an operator's choice of nodes",
    116: "chains with tags are out of scope",
    123: "reconciliation is outside this engine",
    125: "screening is outside this engine",
    126: "a retired contract is made INACTIVE by its operator",
    127: "a token's supply is outside this engine",
}

if __name__ == "__main__":
    sys.exit(marked.main(marked.Marked("pitfall", COUNT, prefix="P", untested=LATER)))
