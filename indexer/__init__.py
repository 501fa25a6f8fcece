"""depositd's indexer: from a node's bytes to a deposit's events. The map, a line a module.

What runs
    cli             parse, run one of commands/ (console: what they share), say what became of it
    engine          composition root: settings and an installation become running parts
    installation    database and secrets, opened
    network         one network's life in a process: connect, lead, follow, scan, say how it is
    hints           what a node says by itself ends the wait for the next poll
    demo            the whole engine against simulated nodes (demo_receivers: who it calls)

The money path
    model           the nouns and their rules: coins, deposits, states, events, amounts; no I/O
    chains/         the chain port, and an adapter with its proofs for each family
    follower        a step: compare, decide one thing, do it
    finality        which block of our branch cannot be undone
    ancestry        where a node's branch leaves ours, and which has more work
    booking         what one transaction does with proved blocks
    balances        whether what an address has agrees, where a coin wants that
    spendings       whose an input was: own money is no deposit
    review          a person's decision on what no rule decides
    scan/           past blocks, read again for what was registered late (claims: who reads which
                    blocks, stride: how many, reading, booking), or because an operator asked
                    (request, candidates: only what a node names)
    replay          past blocks, held against what is stored
    recording/      a node's answers, kept in a file (tape: what passes, chain: the port over it)
    coverage        registration without a gap: addresses, activation (bulk: by the million)
    coins           what is deposited: registered by contract, changed by admins
    watchset        is this key watched? (keyset: among ten million; column: how they are loaded)
    cursors         the SQL of cursor and stored headers: the fence
    ledger          the SQL of coins and deposits
    feed            the SQL of events: positions without gaps, deliveries with them
    totals          what deposits sum up to, moved with their events
    origin          a network's first cursor, and an operator's rewind
    meter           what a follower tells Prometheus of its work
    lease           which process works at a network

What it stands on
    config/         settings from TOML and environment
    database        PostgreSQL: pool, failures by name, schema steps
    bell            NOTIFY wakes dispatchers and streams
    embedded        a PostgreSQL of our own under data_dir (postgres: its programs)
    secret          what is stored encrypted
    log             one line a unit of work

What people ask
    api/            the HTTP API, one file a resource; its document comes of its code
    client          the same, for scripts
    status          where networks and deliveries stand
    census          the same in numbers, for Prometheus (metrics: what it is told)
    watchdog        loud when heads stand still or deliveries stay due
    check           each endpoint, tried alone
    explain/        what became of a transaction (nodes: what they say, facts: what the database
                    knows, cases: whose; steps, ways, callbacks: the sentences)
    devnet/         simulated nodes, for demo and tests
"""
