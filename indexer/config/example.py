"""What `depositd init` writes: every key, commented out where it stands at its default."""

from __future__ import annotations

from typing import Final

EXAMPLE: Final = """\
# depositd's settings. Every key can also be given in the environment, as DEPOSITD_ and the key in
# capitals, tables joined by two underscores: DEPOSITD_NETWORKS__ETHEREUM__CONFIRMATIONS=20. The
# environment wins. What is commented out stands at its default.

# Left out: a PostgreSQL of its own under data_dir. With it, secret_key is required.
# database = "postgresql://depositd:password@localhost/depositd"
# data_dir = ".depositd"

# Encrypts the secrets that the database holds; at least 16 characters. Another one than the
# database began with is refused. The embedded PostgreSQL gets one made: data_dir/secret.key
# secret_key = ""

[api]
# listen = "127.0.0.1:8080"
# admin_key = ""                  # an operator's key, valid as long as it stands here
# tls_cert = "cert.pem"           # both, or none
# tls_key = "key.pem"
# trusted_proxies = []            # like ["10.0.0.0/8"]: whose X-Forwarded-For is believed

# One table for each followed chain; its name is the network's id everywhere.
[networks.ethereum]
family = "evm"
chain_id = 1
endpoints = [
    "http://127.0.0.1:8545",
    # { url = "http://node-b:8545", headers = { Authorization = "a" }, ws = "ws://node-b:8546" },
]
confirmations = 12                # blocks, or "finalized": when the network calls it final
# label = "ERC20"                 # what the exchange-style routes may call it
# coin = "eth"                    # native coin's id; known for known chains, else the network's id
# symbol = "ETH"
# decimals = 18
# finality = "network"            # "depth": final once reorg_window deep, for chains that can't say
# reorg_window = 128              # blocks that may be replaced; one more halts this network, loudly
# start = "latest"                # or a height; read only before the first block
# poll_interval = 1.0             # seconds
# tip_alarm = 120.0               # seconds without a block; left out: 12 mean intervals; 0: none
# native = "transactions"         # "off" | "transactions" | "traces" (internal payments as well)
# verify = "full"                 # how a block is proved: "full" | "bloom" | "off"
# quorum = 1                      # endpoints that must name the same block before it counts

# A TRON node has a full side and a solidified one; `solidity` left out: both at one URL. With
# `quorum = 2` two nodes must say the same of logs and internal transactions: no block proves them.
# [networks.tron]
#     family = "tron"
#     endpoints = [{ url = "http://127.0.0.1:8090", solidity = "http://127.0.0.1:8091" }]
#     confirmations = 19

# A Bitcoin-like node: `rest=1` halves what blocks take on the wire, and with `zmqpubhashblock` the
# node tells of a block before it is polled again. Final is what lies deeper than reorg_window.
# [networks.bitcoin]
#     family = "utxo"
#     coin = "btc"                    # "btc" | "ltc" | "doge": also chooses the chain's rules
#     chain = "mainnet"               # "mainnet" | "testnet" | "signet" | "regtest"
#     endpoints = [
#         "http://user:password@127.0.0.1:8332",
#         # { url = "http://user:password@node-b:8332", zmq = "tcp://node-b:28332" },
#     ]
#     confirmations = 3               # coinbases wait for their maturity as well

[callbacks]
# Development only: callbacks may go to loopback, to private ranges and to any port; to http://.
# allow_private = false
# allow_http = false
# source_addresses = []             # like ["203.0.113.7"]: where callbacks come from
# keep_answers = true               # the beginning of what receivers answer, with each attempt
"""
