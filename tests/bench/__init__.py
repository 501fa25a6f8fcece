"""`make bench`: what the engine does a second, beside the floor of the same run.

Absolute figures move by a third between runs and machines; the ratios are what to compare.

    blocks.py    mainnet-size EVM blocks that prove, made from a seed
    recording.py a node's answers about them, serialised once, in a file
    http.py      a minimal HTTP/1.1 server, so that the other side is never the limit
    replay.py    a node that serves a recording
    growing.py   the same, block by block, told of over WebSocket
    latency.py   from a block to its callbacks, through a whole engine
    process.py   servers and measured code, in processes of their own
    engine.py    the engine under measurement: fresh database, settings, watched addresses
    floor.py     the floor of catch-up
    outbox.py    due deliveries, and events committed at a pace
    catch_up.py  deposits.py  callbacks.py  addresses.py    the figures, and what stands beside them
    tron.py      utxo.py                      catch-up of the other families, node and floor with it
    parse.py     recorded Bitcoin blocks, beside ElectrumX
    peers/       other indexers at the same blocks: `make bench-peers`
    suite.py     results.py                   what they share, and how they are shown
    __main__.py  runs them and writes RESULTS.md
"""
