"""`make bench-peers`: the same blocks from the same node, for depositd and for other indexers.

Every peer is installed as its users would, pinned, into the folder `.peers`, and runs as a process
of its own from start to end. Nothing of it is needed for anything else.

    contest.py    a job, who can do it, and how a run is scored
    node.py       recorded chains, honest ones and ones from which something is left out
    depositd.py   ours, and the process that it runs as
    sqd.py  ponder.py    peers that store into PostgreSQL
    ethereum_etl.py  cryo.py    peers that write a file, or keep a frame in memory
    __main__.py   installs, runs, and prints the tables
"""
