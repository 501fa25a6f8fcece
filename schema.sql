-- depositd's schema, in numbered steps. `database.py` applies each step once, in order, under an
-- advisory lock, and records it in `schema_step`. A step that has been released never changes: a
-- change of mind is a new step.
--
-- Amounts are whole base units in numeric(78,0), which rounds fractions *silently*: the code hands
-- over nothing but ints. Hashes and address keys are raw bytes. Time comes from clock(), never now().
--
-- Tables that grow to millions are vacuumed when a twentieth of their rows is dead or new, analyzed
-- at a fiftieth: the defaults wait for two million, and for one. Rows that are updated all the time
-- in what no index knows have room beside them (fillfactor), so that no index is written to.

-- step 1

-- The database's clock, or what a simulation set for its session.
create function clock() returns timestamptz language sql volatile as $$
    select coalesce(nullif(current_setting('depositd.clock', true), '')::timestamptz, clock_timestamp())
$$;

-- One row. Another secret_key than the one that encrypted what is stored is refused.
create table installation (
    only_row         boolean primary key default true check (only_row),
    key_fingerprint  bytea not null,
    created_at       timestamptz not null default clock()
);

create table account (
    id          text primary key check (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name        text not null,
    -- Positions given out in the account's feed. Taken last in a transaction, accounts in id order:
    -- the row lock makes the order of positions the order of commit, without gaps.
    position    bigint not null default 0 check (position >= 0),
    forgotten   bigint not null default 0,  -- positions up to it are no longer kept
    created_at  timestamptz not null default clock(),
    check (forgotten between 0 and position)
) with (fillfactor = 70);

create type key_scope as enum ('read', 'write', 'admin');

create table api_key (
    id            text primary key,
    account       text references account,  -- null: an admin key, which belongs to no account
    hash          bytea not null unique check (length(hash) = 32),  -- SHA-256 of a random key
    scopes        key_scope[] not null check (cardinality(scopes) > 0),
    allowed_ips   cidr[],  -- null: from anywhere
    secret        bytea,  -- encrypted, bound to the id; where set, requests are signed with it
    rate_limit    real check (rate_limit > 0),  -- requests a second and process; null: the default
    expires_at    timestamptz,
    used_at       timestamptz,  -- to the minute
    used_from     inet,
    created_at    timestamptz not null default clock(),
    check ((account is null) = ('admin' = any (scopes)))
);
create index on api_key (account);

-- Signatures of requests that changed something, until they are too old to be taken again.
create table used_signature (
    signature  bytea primary key check (length(signature) = 32),
    at         timestamptz not null default clock()
);
create index on used_signature (at);

-- The answers of creating requests, by their Idempotency-Key; secrets are left out.
create table idempotency (
    key_id      text not null,
    route       text not null,
    name        text not null,
    body_hash   bytea not null check (length(body_hash) = 32),
    status      smallint not null,
    answer      bytea not null,
    created_at  timestamptz not null default clock(),
    primary key (key_id, route, name)
);
create index on idempotency (created_at);

-- Who changed what through the API, written with the change itself.
create table audit (
    id          bigint generated always as identity primary key,
    at          timestamptz not null default clock(),
    account     text,  -- whose; null: the installation's
    key_id      text not null,
    address     inet not null,
    request_id  text not null,
    action      text not null,  -- method and route
    target      text not null,  -- the path
    details     jsonb not null  -- the body, what is secret or long left out
);
create index on audit (at desc, id desc);
create index on audit (account, at desc, id desc);
create index on audit (key_id, at desc, id desc);

-- ---------------------------------------------------------------------------- networks

-- What a follower says of its network, for API, status and other processes. Not fenced: a view of
-- health, never a reason to act on money. The follower of the network moves it between all states.
create type network_state as enum (
    'starting',     -- no block of it compared yet
    'catching_up',  -- more than a few blocks behind the head
    'following',    -- at the head
    'forked',       -- the endpoint's branch differs from ours and is not longer: waiting
    'halted',       -- a reorg deeper than the window or below the finalized block: an operator rewinds
    'unreachable',  -- no endpoint answers, or what they answer does not prove
    'refused'       -- the check at start failed for good: wrong chain, no proof
);

create table network (
    id          text primary key,
    family      text not null,
    identity    text unique,  -- chain id and genesis: recorded at first connect, compared ever after
    state       network_state not null default 'starting',
    reason      text,
    head        bigint,
    head_at     timestamptz,  -- when it was last seen to rise
    updated_at  timestamptz not null default clock()
);

-- The fence. Whoever moves a network's chain updates this row where hash, version and watch_version
-- are what it loaded; no match, no commit.
create table cursor (
    network        text primary key references network,
    height         bigint not null check (height >= -1),
    hash           bytea not null check (length(hash) = 32),
    version        bigint not null default 0,
    -- Raised by activation, removal, coin change and rewind: what was matched before is matched again.
    watch_version  bigint not null default 0,
    finalized      bigint not null default -1,  -- highest block of our own branch that cannot be undone
    -- After a rewind: the old height. What is still unplaced when the cursor passes it is orphaned.
    rewound_from   bigint,
    rewinds        integer not null default 0,
    check (finalized <= height),
    check (rewound_from is null or rewound_from >= height)
);

-- Keeps replicas from doing a network's work twice for nothing. Correctness is the cursor's.
create table lease (
    name    text primary key,
    holder  uuid not null,
    process text not null,  -- its host:pid, for operators
    until   timestamptz not null
);

-- The stored headers: reorg_window + 1 of each network, which decide where a branch leaves ours.
create table block (
    network  text not null references network,
    height   bigint not null,
    hash     bytea not null check (length(hash) = 32),
    parent   bytea not null check (length(parent) = 32),
    time     timestamptz not null,
    source   text not null,  -- the endpoint that served it
    work     numeric(78, 0),  -- hashes that it took on average; null where length decides
    primary key (network, height)
);

-- ---------------------------------------------------------------------------- what is watched

-- pending -> active: the follower, at a block boundary. pending, active -> removed: its owner.
-- removed -> pending: registered again.
create type watch_state as enum ('pending', 'active', 'removed');

create type coin_status as enum ('active', 'inactive');  -- moved both ways by an admin

create table coin (
    id               text primary key,
    network          text not null references network,
    asset            bytea not null,  -- empty: the native coin
    name             text not null,
    symbol           text not null,
    decimals         smallint not null check (decimals between 0 and 77),
    status           coin_status not null default 'active',
    state            watch_state not null default 'pending' check (state <> 'removed'),
    covered_from     bigint not null check (covered_from >= 0),
    active_from      bigint,
    changed_version  bigint,  -- the watch_version that its activation or last change made
    minimum          numeric(78, 0) not null default 0 check (minimum >= 0),
    confirmations    integer check (confirmations >= 1),
    tiers            jsonb not null default '[]',  -- [{"upTo": "base units", "confirmations": n}], rising
    cap              numeric(78, 0) check (cap >= 0),
    -- What came must show in the address's balance (tokens of EVM networks).
    balance_check    boolean not null default false check (not balance_check or asset <> ''),
    kept             jsonb not null default '{}',  -- settings of back offices: never acted on
    created_at       timestamptz not null default clock(),
    unique (network, asset),
    check ((state = 'pending') = (active_from is null))
);

create type address_role as enum ('deposit', 'own');

create table watched_address (
    id               bigint generated always as identity primary key,
    network          text not null,  -- these two by a trigger, below
    address          bytea not null,
    account          text not null,
    reference        text,
    role             address_role not null default 'deposit',
    state            watch_state not null default 'pending',
    silent           int8multirange not null default '{}',  -- blocks whose backfill makes no callbacks
    covered_from     bigint not null check (covered_from >= 0),
    active_from      bigint,
    removed_from     bigint,
    changed_version  bigint,  -- the watch_version that its activation or removal made
    created_at       timestamptz not null default clock(),
    unique (network, address, account),
    check ((state = 'pending') = (active_from is null and removed_from is null)),
    check ((state = 'removed') = (removed_from is not null))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.02);
create index on watched_address (network) where state = 'pending';
create index on watched_address (network, changed_version);
create index on watched_address (created_at desc, id desc) where state <> 'removed';
create index on watched_address (account, created_at desc, id desc) where state <> 'removed';
create index on watched_address (account, network, created_at desc, id desc)
    where state <> 'removed';
create index on watched_address (account, reference, created_at desc, id desc)
    where state <> 'removed' and reference is not null;

-- In place of two foreign keys. They would look both rows up for each address, and an import of a
-- million is one transaction: the versions that others' updates of them leave behind (heads, feed
-- positions) stay for as long as it runs and would all be walked through each time. Neither row is
-- ever deleted.
create function check_watched() returns trigger language plpgsql as $$
declare
    lacking record;
begin
    select w.* into lacking
      from (select distinct network, account from added) w
     where not exists (select from network n where n.id = w.network)
        or not exists (select from account a where a.id = w.account);
    if found then
        raise foreign_key_violation using message = format(
            'there is no network %L or no account %L', lacking.network, lacking.account);
    end if;
    return null;
end $$;
create trigger watched_address_parents after insert on watched_address
    referencing new table as added for each statement execute function check_watched();

create type import_state as enum ('receiving', 'registering', 'done', 'failed');  -- in this order

-- How far an import of addresses is. `done` commits with the addresses themselves.
create table address_import (
    id          bigint generated always as identity primary key,
    account     text not null references account,
    network     text not null,
    state       import_state not null default 'receiving',
    rows        bigint not null default 0,  -- read and checked
    registered  bigint not null default 0,
    error       text,
    created_at  timestamptz not null default clock(),
    updated_at  timestamptz not null default clock()
);
create index on address_import (account, created_at desc, id desc);

-- A watch-only wallet: addresses come of it in the order of their index, one a reference.
create table wallet (
    id          text primary key,
    account     text not null references account,
    network     text not null references network,
    name        text,
    xpub        bytea not null,  -- encrypted, bound to the id: it tells every address of its owner
    identity    bytea not null check (length(identity) = 32),  -- a hash of the xpub
    path        text not null,
    next_index  bigint not null default 0 check (next_index >= 0),
    created_at  timestamptz not null default clock(),
    unique (account, network, identity, path)
);
create index on wallet (account, created_at desc, id desc);

create table wallet_address (
    wallet     text not null references wallet,
    reference  text not null,
    index      bigint not null check (index >= 0),
    address    bytea not null,
    primary key (wallet, reference),
    unique (wallet, index)
);

-- open -> done: the scanner that read its last block.
create type scan_state as enum ('open', 'done');

-- Blocks to read again because something covers them that was not active when they passed, or because
-- an operator's command asked for it.
create table scan (
    id           bigint generated always as identity primary key,
    network      text not null references network,
    first        bigint not null check (first >= 0),
    last         bigint not null,
    unread       int8multirange not null,
    -- Everything from first to next - 1 is read.
    next         bigint not null generated always as (coalesce(lower(unread), last + 1)) stored,
    state        scan_state not null default 'open',
    version      bigint,  -- for what was activated with this watch_version
    account      text references account,  -- for addresses of its own whose fromBlock it lowered
    command      boolean not null default false,  -- read by the command alone that asked for it
    all_history  boolean not null default false,  -- credits below coverage, too
    silent       boolean not null default false,  -- makes no callbacks
    by_logs      boolean not null default false,  -- reads the blocks alone that a node names
    deposits     bigint not null default 0,  -- that a command wrote
    created_at   timestamptz not null default clock(),
    check (first <= last and unread <@ int8range(first, last + 1)),
    check ((state = 'done') = isempty(unread)),
    check (command or not (all_history or silent or by_logs))
);
create index on scan (network, next) where state = 'open';
create unique index on scan (network, first, last, all_history, silent, by_logs)
    where state = 'open' and command;

-- Blocks that a process is reading for open scans, so that others read other ones meanwhile. It saves
-- work and is no fence: what two of them read is booked once.
create table scan_claim (
    network  text not null references network,
    command  bigint references scan,  -- whose blocks; null: those of all registrations
    first    bigint not null,
    last     bigint not null,
    holder   uuid not null,
    until    timestamptz not null
);
create index on scan_claim (network);

-- ---------------------------------------------------------------------------- deposits

create type deposit_state as enum (
    'detected',   -- in a block of the followed chain. From nothing, orphaned, held, ignored.
                  -- To confirmed by depth, orphaned by a reorg.
    'confirmed',  -- deep enough for its coin and amount. From detected. To finalized, orphaned.
    'finalized',  -- cannot be undone. From confirmed. To orphaned only by an operator's rewind.
    'ignored',    -- below the minimum, or our own money. From nothing, orphaned.
                  -- To detected by an admin's release, orphaned (without event) by a reorg.
    'held',       -- not decidable by rule. From nothing, orphaned. To detected by release,
                  -- rejected by an admin, orphaned by a reorg.
    'orphaned',   -- its block left the chain. From any other. To where it first stood when it is
                  -- mined again (to rejected, if it had been that).
    'rejected'    -- refused by an admin. From held, orphaned. To orphaned by a reorg.
);

create type deposit_reason as enum (
    'below_minimum', 'internal',
    'coin_inactive', 'unknown_shape', 'balance_mismatch', 'balance_unknown', 'above_cap', 'mixed_inputs'
);

create table deposit (
    id            text primary key,
    account       text not null references account,
    network       text not null references network,
    tx            bytea not null,
    address       bytea not null,
    asset         bytea not null,
    ordinal       integer not null check (ordinal >= 0),
    coin          text not null references coin,
    units         numeric(78, 0) not null,
    sender        bytea,
    height        bigint not null,
    hash          bytea not null check (length(hash) = 32),
    time          timestamptz not null,
    reference     text,
    required      integer check (required >= 1),  -- null: when the network calls it final
    -- The height at which depth alone confirms it.
    confirm_at    bigint generated always as (height + required - 1) stored,
    first_state   deposit_state not null check (first_state in ('detected', 'ignored', 'held')),
    first_reason  deposit_reason,
    maturity      integer not null default 0 check (maturity >= 0),  -- confirmations, a coinbase's
    silent        boolean not null default false,
    state         deposit_state not null,
    reason        deposit_reason,
    previous      deposit_state,
    sequence      integer not null,
    counts        smallint[] not null check (cardinality(counts) = 6),
    unplaced      boolean not null default false,
    created_at    timestamptz not null default clock(),
    updated_at    timestamptz not null default clock(),
    unique (network, tx, address, asset, ordinal, account),  -- the identity (P21, P22, P114)
    check (units > 0 or (units = 0 and first_reason = 'unknown_shape')),
    check (units < power(2::numeric, 256)),
    check ((reason is not null) = (state in ('held', 'ignored'))),
    check ((first_reason is not null) = (first_state in ('held', 'ignored'))),
    check (not (unplaced and state = 'orphaned')),
    check (sequence >= 0 and (sequence > 0 or state = 'ignored' or previous = 'ignored'))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.02);

-- What the chain moves on, by its height.
create index on deposit (network, confirm_at) where state = 'detected';
create index on deposit (network, height) where state in ('detected', 'confirmed');
create index on deposit (network, height) where state <> 'orphaned';
create index on deposit (network) where unplaced;
create index on deposit (coin) where state in ('detected', 'held');
-- What people ask for, in the order of its pages; by transaction it is found by its identity.
create index on deposit (created_at desc, id desc);
create index on deposit (account, created_at desc, id desc);
create index on deposit (account, network, created_at desc, id desc);
create index on deposit (account, coin, created_at desc, id desc);
create index on deposit (account, state, created_at desc, id desc) where state <> 'finalized';
create index on deposit (account, reference, created_at desc, id desc) where reference is not null;
create index on deposit (network, address, created_at desc, id desc);

-- Sums of an account's deposits of a coin, moved with their events under the account's lock. Without
-- bound: what one amount may have, two may exceed.
create table total (
    account    text not null references account,
    coin       text not null references coin,
    detected   numeric not null,
    held       numeric not null,
    confirmed  numeric not null,  -- and finalized
    primary key (account, coin)
) with (fillfactor = 50);

-- How many deposits of a network are in each state, moved with them and last of all in their
-- transaction: counting millions of rows would take seconds.
create table deposit_count (
    network  text not null references network,
    state    deposit_state not null,
    count    bigint not null,
    primary key (network, state)
) with (fillfactor = 50);

-- Nothing of ours deletes a deposit. What somebody deleted by hand must not be counted twice once a
-- scan has put it back.
create function uncount_deposit() returns trigger language plpgsql as $$
begin
    update total
       set detected = detected - case when old.state = 'detected' then old.units else 0 end,
           held = held - case when old.state = 'held' then old.units else 0 end,
           confirmed = confirmed
                       - case when old.state in ('confirmed', 'finalized') then old.units else 0 end
     where account = old.account and coin = old.coin;
    update deposit_count set count = count - 1 where network = old.network and state = old.state;
    return null;
end $$;
create trigger uncount_deposit after delete on deposit
    for each row execute function uncount_deposit();

-- Outputs to watched addresses of kinds whose spending reveals no address (UTXO: P2TR, P2PK), so that
-- an account's own inputs are known when they come. Written with the block's transfers.
create table seen_output (
    network  text not null references network,
    tx       bytea not null,
    index    bigint not null check (index >= 0),
    address  bytea not null,
    primary key (network, tx, index)
);

-- ---------------------------------------------------------------------------- events

-- One step of a deposit's life, or news of an endpoint (`endpoint.*`); never changed. `body` is the
-- exact bytes that every attempt sends.
create table event (
    id          text primary key,  -- the webhook-id
    account     text references account,  -- null: news for the operator
    position    bigint check (position > 0),  -- in the account's feed; null: not part of it
    deposit     text references deposit,
    sequence    integer check (sequence > 0),
    type        text not null,
    body        bytea not null check (length(body) <= 65536),
    created_at  timestamptz not null default clock(),
    unique (account, position),
    unique (deposit, sequence),
    check ((deposit is null) = (sequence is null)),
    check ((deposit is null) = (position is null))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.02);
create index on event (account, created_at);

-- ---------------------------------------------------------------------------- callbacks

create type endpoint_state as enum (
    'active',   -- deliveries are sent
    'paused',   -- by its owner: deliveries are held
    'disabled'  -- by the receiver (410) or after long failure: deliveries are held
);

create table endpoint (
    id                 text primary key,
    account            text references account,  -- null: the operator's own, for news of endpoints
    url                text not null check (length(url) <= 2048),
    events             text[],  -- patterns; null: every deposit.* but deposit.finalized
    networks           text[],  -- null: all
    coins              text[],  -- null: all
    min_amount         numeric check (min_amount >= 0),  -- in whole coins; null: any
    headers            bytea,  -- encrypted JSON object, bound to the id: a header may be a password
    rate_limit         double precision not null default 50
                           check (rate_limit between 0.1 and 1000),  -- deliveries a second
    concurrency        smallint not null default 8 check (concurrency between 1 and 64),
    heartbeat_seconds  integer check (heartbeat_seconds >= 60),
    heartbeat_at       timestamptz,  -- when the next one is due
    description        text,
    state              endpoint_state not null default 'active',
    state_reason       text,  -- why it is disabled
    state_since        timestamptz not null default clock(),
    created_at         timestamptz not null default clock(),
    check ((heartbeat_seconds is null) = (heartbeat_at is null))
);
create index on endpoint (account);
create index on endpoint (heartbeat_at) where heartbeat_at is not null and state = 'active';

-- How an endpoint fares, for all dispatchers: written when something fails and by the first success
-- afterwards. Without a row it is well.
create table endpoint_health (
    endpoint       text primary key references endpoint on delete cascade,
    failures       integer not null default 0,  -- attempts in a row that failed
    faults         integer not null default 0,  -- those that speak of the endpoint, not of a message
    failing_since  timestamptz,
    open_until     timestamptz,  -- the breaker: nothing but a probe is sent, and none before that
    open_seconds   integer,  -- how long it was opened last
    probed         text,  -- the deposit whose delivery was the last probe
    room           smallint,  -- half-open: deliveries at once, doubled with each that is answered
    paused_until   timestamptz,  -- by the receiver's Retry-After
    told           smallint not null default 0  -- warnings given of this failure
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The processes that send, each as long as it says so: they share the endpoints among them, so that
-- an endpoint's rate, connections and order of probes are in one hand. A hint, never a promise:
-- deliveries are kept apart by their leases alone.
create table dispatcher (
    id       uuid primary key,
    seen_at  timestamptz not null
);

-- Newest first signs first; an older one signs beside it until it expires.
create table endpoint_secret (
    endpoint    text not null references endpoint on delete cascade,
    secret      bytea not null,  -- encrypted; the endpoint's id is bound to it
    created_at  timestamptz not null default clock(),
    expires_at  timestamptz,
    primary key (endpoint, created_at)
);

-- A live delivery: one event for one endpoint, not sent yet. A claim leases it for a while under a
-- fresh token; an outcome is taken only with that token. No index knows of leases, and each row has
-- room for another version beside it, so that a claim writes to no index. Finished ones move to
-- delivery_done in the settling statement, so that this table holds nothing but work.
-- It is empty most of the time. Once a vacuum has seen it so but couldn't cut its pages off (somebody's
-- snapshot is old), the planner takes an index of it for a page, and a join by `=` may walk the whole
-- index for each row of the other side: 500 rows took minutes. So it is joined laterally `for update`
-- or by `= any (array[…])`, which leave no other way than to look each row up.
create table delivery (
    id           bigint generated always as identity primary key,
    endpoint     text not null references endpoint on delete cascade,
    event        text not null references event (id),
    deposit      text references deposit,
    sequence     integer,
    due_at       timestamptz not null default clock(),
    requests     integer not null default 0,  -- all that were sent: their numbers
    attempts     smallint not null default 0 check (attempts >= 0),  -- those charged
    answered     smallint not null default 0,  -- those charged that failed with an answer
    resent       boolean not null default false,  -- by a resend: waits for nobody, nobody for it
    lease_token  uuid,
    leased_until timestamptz,  -- somebody else may claim it then
    last_error   text,
    last_status  smallint,
    created_at   timestamptz not null default clock(),
    unique (event, endpoint),
    unique (endpoint, deposit, sequence),
    check ((lease_token is null) = (leased_until is null))
) with (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index on delivery (endpoint, due_at, id);
create index on delivery (endpoint, created_at, id);
create index on delivery (endpoint) where resent and attempts = 0;

-- Each endpoint's first delivery by due time. Found by skipping through the index: as many steps as
-- endpoints, however many deliveries.
create view lane as
    with recursive lane as (
        (select endpoint, due_at from delivery order by endpoint, due_at limit 1)
        union all
        select next.endpoint, next.due_at
          from lane cross join lateral (
            select d.endpoint, d.due_at from delivery d
             where d.endpoint > lane.endpoint order by d.endpoint, d.due_at limit 1) next
    )
    select endpoint, due_at from lane;

create type delivery_state as enum (
    'delivered',  -- a complete 2xx head came back
    'exhausted',  -- its attempts are spent; a resend makes it pending again
    'cancelled'   -- its endpoint was deleted, or an operator skipped it
);

create table delivery_done (
    id           bigint not null,
    endpoint     text not null,
    event        text not null,
    deposit      text,
    sequence     integer,
    state        delivery_state not null,
    reason       text,
    requests     integer not null,
    attempts     smallint not null,
    last_error   text,
    last_status  smallint,
    created_at   timestamptz not null,
    done_at      timestamptz not null default clock(),
    primary key (id, done_at)
) partition by range (done_at);
create table delivery_done_default partition of delivery_done default;
create index on delivery_done (event, endpoint);
create index on delivery_done (endpoint, created_at, id);
create index on delivery_done (endpoint, created_at, id) where state <> 'delivered';

-- One HTTP request of a delivery; never changed. A day a partition; what finds no partition of its
-- day goes to the default one, so that a delivery is never acknowledged without its row.
create table attempt (
    delivery       bigint not null,
    number         integer not null,
    at             timestamptz not null,
    charged        boolean not null,
    status         smallint,
    error          text,  -- null: success
    address        inet,  -- of the receiver
    dns_ms         real,
    connect_ms     real,
    tls_ms         real,
    first_byte_ms  real,
    total_ms       real not null,
    head           text,  -- of the answer: escaped, bounded
    primary key (delivery, number, at)
) partition by range (at);
create table attempt_default partition of attempt default;

-- A range of an endpoint's past that is being sent again, in the order of the feed and paced; its
-- row goes when all of it is on its way.
create table resend (
    id          bigint generated always as identity primary key,
    endpoint    text not null references endpoint on delete cascade,
    since       timestamptz not null,
    until       timestamptz not null,
    states      text[],  -- of deliveries; null: also events that had none
    next        bigint not null,  -- position in the feed: everything below it is done
    last        bigint not null,
    count       bigint not null,  -- of events, when it was asked for
    next_at     timestamptz not null default clock(),  -- of its next deliveries
    created_at  timestamptz not null default clock()
);
create index on resend (endpoint, id);

-- Whether one of an endpoint's patterns is that of a type of event. It and what uses it are single
-- expressions without a subquery, so that they become part of the statement.
create function matches(patterns text[], type text) returns boolean language sql immutable return
    type like any (string_to_array(
        replace(replace(array_to_string(patterns, ' '), '_', '\_'), '*', '%'), ' '));

-- Whether an endpoint asks for an event of a deposit.
create function asks_for(e endpoint, type text, d deposit, c coin) returns boolean
language sql stable return
    case when e.events is null then type <> 'deposit.finalized' else matches(e.events, type) end
    and (e.networks is null or d.network = any (e.networks))
    and (e.coins is null or d.coin = any (e.coins))
    and (e.min_amount is null or d.units >= e.min_amount * power(10::numeric, c.decimals));

-- Wakes, once the transaction is committed: dispatchers by the endpoints that have work, streams by
-- any ring at all. Nothing is said where those are more than a payload holds, '-' where there are none.
create function ring_bell(endpoints text[]) returns void language sql as $$
    select pg_notify('depositd_bell', case when cardinality(endpoints) = 0 then '-'
                                           when cardinality(endpoints) > 200 then ''
                                           else array_to_string(endpoints, ' ') end)
$$;

-- Makes the deliveries of events that this transaction inserted: the one place where the indexer's
-- events meet the callbacks' endpoints, so that neither package imports the other. The lock on an
-- endpoint makes its deletion wait, or hides it from here when the deletion came first.
create function make_deliveries(event_ids text[]) returns void language plpgsql as $$
declare
    endpoints text[];
begin
    with made as (
        insert into delivery (endpoint, event, deposit, sequence)
        select e.id, v.id, v.deposit, v.sequence
          from event v
          join deposit d on d.id = v.deposit and not d.silent
          join coin c on c.id = d.coin
          join endpoint e on e.account = v.account
         where v.id = any (event_ids)
           and asks_for(e, v.type, d, c)
         order by v.account, v.position, e.id
           for key share of e
            on conflict do nothing
        returning endpoint, deposit, sequence
    ), hurried as (
        -- News of a deposit is worth trying what waits before it at once. A row that somebody holds
        -- is being tried right now; waiting for it would only hold up the indexer.
        update delivery set due_at = clock()
         where id = any (array(
            select waiting.id
              from made cross join lateral (
                select w.id from delivery w
                 where w.endpoint = made.endpoint and w.deposit = made.deposit
                   and w.sequence < made.sequence and not w.resent
                   and w.lease_token is null and w.due_at > clock()
                   for update skip locked) waiting
             where made.sequence > 1))
    )
    select coalesce(array_agg(distinct endpoint), '{}') into endpoints from made;
    perform ring_bell(endpoints);  -- streams hear of events that nobody is called about
end $$;

-- Ends live deliveries without a further attempt; returns how many there were.
create function end_deliveries(ids bigint[], ended delivery_state, why text) returns bigint
language sql as $$
    with live as materialized (
        select id from delivery where id = any (ids) order by id for update
    ), gone as (
        delete from delivery where id = any (array(select id from live)) returning *
    ), done as (
        insert into delivery_done (id, endpoint, event, deposit, sequence, state, reason, requests,
                                   attempts, last_error, last_status, created_at)
        select id, endpoint, event, deposit, sequence, ended, why, requests, attempts, last_error,
               last_status, created_at
          from gone
    )
    select count(*) from gone
$$;
