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
endpoints   the SQL of endpoints
api         /v1/endpoints

verification  whether what arrived is the sender's, and exactly why not
receiver      a receiver on loopback: judges what comes, for the demo and for developers
listen        `depositd listen`
"""
