"""Callbacks: from an event's delivery row to a signed request at its endpoint.

signing     Standard Webhooks: make a secret, sign an attempt
schedule    when a failed delivery is tried again; Retry-After
guard       where callbacks may go: the URL, and every socket address
resolver    from a host to its addresses, none of them forbidden
headers     which headers an endpoint may add to its requests
connection  one connection: a request out, a bounded answer in
idle        connections between two requests
sender      one POST over kept-alive connections
answer      what came of it
attempts    one attempt: sign, guard, send
claims      the SQL of leases: claim, release
outcomes    the SQL of settling, an attempt's row with it
settler     outcomes into the database, in batches, kept while it is away
dispatcher  the loop: claim, sign, send, settle
endpoints   the SQL of endpoints: what owners set, secrets, what is held
news        events of endpoints instead of deposits
trial       an endpoint.test, sent at once
resends     sending again: one delivery, or a range, paced
heartbeats  an event a slot, so that silence can be noticed
partitions  of the attempt log and of finished deliveries: made ahead, dropped when old
retention   events are forgotten after 90 days
upkeep      does the last four in every dispatcher
api         the routes of endpoints and deliveries

verification  whether what arrived is the sender's, and exactly why not
receiver      a receiver on loopback: judges what comes, for the demo and for developers
listen        `depositd listen`
"""
