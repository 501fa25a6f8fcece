"""The table fault case → test → state of the callbacks (tests/marked.py says how).

python -m tests.cases               # collects, runs nothing
python -m tests.cases --run         # runs each marked test

The numbers are those of the callback specification, section 2. Out of scope, with what they would
ask in a case: ed25519 signatures (`v1a`), client certificates (mTLS), an egress proxy.
"""

from __future__ import annotations

import sys

from tests import marked

TITLES = {
    1: "slow loris: the request is never read",
    2: "slow loris: headers that drip",
    3: "slow loris: a body that drips after a 200",
    4: "closed mid-response; exactly one POST an attempt",
    5: "a body of 10 MB",
    6: "an endless chunked body",
    7: "a compression bomb",
    8: "1xx answers without end",
    9: "answers that are not HTTP, or contradict themselves",
    10: "200 before the request's body is read",
    11: "204 with a body; answers in binary",
    12: "TCP accepted, TLS never",
    13: "reset in each phase",
    14: "429 storm; Retry-After in every shape",
    15: "410 and `webhook-delivery`: disabled and held",
    16: "redirect to a metadata address",
    17: "DNS rebinding",
    18: "DNS answers: mixed, internal, none, too many, never",
    19: "addresses in every notation",
    20: "proxies, netrc and cookies of the environment",
    21: "TLS that must not be trusted (mTLS: out of scope)",
    22: "CR and LF in what a customer gives",
    23: "an internal service's answer, read through the log",
    24: "registration as a port scanner",
    25: "the standard's vectors and libraries (`v1a`: out of scope)",
    26: "rotation of secrets",
    27: "an attempt at hour 30; clocks that are wrong or step",
    28: "the same bytes on every attempt and resend",
    29: "kill -9 after the claim, after the POST, after the commit",
    30: "SIGSTOP past the lease",
    31: "SIGTERM",
    32: "PostgreSQL restarts, is full, stalls",
    33: "a deposit rolled back; a crash after the commit",
    34: "order under failures, kills and several dispatchers",
    35: "a flapping reorg converges",
    36: "a deposit indexed again has the same ids",
    37: "dispatchers and resends overlap",
    38: "one endpoint with a huge backlog that times out",
    39: "30 % of endpoints dead, 10 % slow",
    40: "an old snapshot is held",
    41: "NOTIFY is lost",
    42: "a partition is missing, the disk is full",
}

if __name__ == "__main__":
    sys.exit(marked.main(marked.Marked("case", len(TITLES), titles=TITLES)))
