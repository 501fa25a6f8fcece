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
statements  statements that are given up in time
claims      the SQL of leases: due, claim, probe, release
outcomes    the SQL of settling, an attempt's row with it
verdict     what an answer means for its delivery and its endpoint
health      an endpoint's breaker, pauses and warnings
checkups    the SQL of health, and what the operator is told
batches     things on their way into the database
clock       the time that attempts are signed with
members     the dispatchers at work, and whose an endpoint is
lanes       what is in hand of an endpoint, its rate and its width
traffic     the attempts under way
claimer     when to claim, and for whom
dispatcher  all of it put together
endpoints   the SQL of endpoints: what owners set, secrets, what is held
news        events of endpoints instead of deposits
trial       an endpoint.test, sent at once
resends     sending again: one delivery, or a range, paced
heartbeats  an event a slot, so that silence can be noticed
partitions  of the attempt log and of finished deliveries: made ahead, dropped when old
retention   events are forgotten after 90 days
held        what can't be sent for too long is given up
watch       warns of what slows the database down
upkeep      does the last six in every dispatcher
metrics     what Prometheus is told
api         the routes of endpoints and deliveries

verification  whether what arrived is the sender's, and exactly why not
receiver      a receiver on loopback: judges what comes, for the demo and for developers
listen        `depositd listen`
"""
