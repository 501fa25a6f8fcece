"""`make bench-peers`: the same blocks from the same node, for depositd and for other indexers.

Every peer is installed as its users would, pinned, into the folder `.peers`, and runs as a process
of its own from start to end. Nothing of it is needed for anything else.

    contest.py    a job, who can do it, and how a run is scored
    node.py       recorded chains, honest ones and ones from which something is left out
    depositd.py   ours, and the process that it runs as
    sqd.py  envio.py  ponder.py    peers that store into PostgreSQL
    ethereum_etl.py  cryo.py    peers that write a file, or keep a frame in memory
    tables.py     the same jobs for all, checked, as rows of a table
    __main__.py   who takes part, and the page

ElectrumX's parser needs no node: it is called by ../parse.py, which `make bench` runs as well.
"""
