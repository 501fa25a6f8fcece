"""Deterministic simulation: one seed decides everything, and the promises are held throughout.

The follower, the scanner, the ledger's SQL, the dispatcher and the adapter's proofs are the real
ones, on a real PostgreSQL. Simulated are time, chance, the machines and what lies beyond the ports.

seed       streams of choices, apart for each who chooses
loop       an event loop: one callback at a time, virtual time, processes that die
clock      time and randomness in the program's modules
database   PostgreSQL, one call at a time; locks waited for, connections lost
sessions   the connections to it
server     the server that simulations share
nodes      a chain and the nodes that tell of it: late, broken, lying
receivers  who is called, in every mood
world      all of it together
actions    what happens, and when
owners     what owners and operators ask for
fence      whose a delivery is
truth      what the chain really pays
promises   what must hold, at any moment and in the end
history    one seed, lived through
workers    histories in several processes
shrink     a broken history without what does not matter
bugs       mistakes to plant, which must be found
report     what was done and found
"""
