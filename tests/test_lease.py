"""The lease saves work between replicas; the database's clock alone judges it."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg

from indexer import database, status
from indexer.lease import FOLLOW, LEASE, Lease

ONE, TWO = UUID(int=1), UUID(int=2)


async def test_one_process_holds_it_until_it_lapses(pool: asyncpg.Pool) -> None:
    first, second = Lease(pool, "follow:net", ONE), Lease(pool, "follow:net", TWO)
    assert await first.take()
    assert not await second.take()
    assert await first.take()  # renewed
    await pool.execute("update lease set until = clock() - interval '1 microsecond'")
    assert await second.take()
    assert not await first.take()
    assert not first.held


async def test_a_released_lease_is_free_at_once(pool: asyncpg.Pool) -> None:
    first, second = Lease(pool, "follow:net", ONE), Lease(pool, "follow:net", TWO)
    await first.take()
    await first.release()
    assert not first.held
    assert await second.take()
    await first.release()  # no longer its own
    assert not await first.take()


async def test_a_holder_never_believes_longer_than_the_row_says(pool: asyncpg.Pool) -> None:
    lease = Lease(pool, "follow:net", ONE)
    await lease.take()
    left = await pool.fetchval("select until - clock() from lease")
    assert left <= LEASE
    assert lease.held


def test_a_holder_that_is_cut_off_in_a_transaction_holds_its_locks_no_longer() -> None:
    """Whoever leads next would else wait for the cursor, which that transaction has locked."""
    assert LEASE.total_seconds() >= database.IDLE_TRANSACTION_SECONDS
    gone = database.KEEPALIVE_SECONDS * (1 + database.KEEPALIVES)
    assert gone < LEASE.total_seconds()


async def test_a_holder_that_hangs_in_a_transaction_loses_it_with_its_lease(
    dsn: str, pool: asyncpg.Pool
) -> None:
    """Stopped while a statement is prepared: for the server it is busy, for a minute."""
    hung, other = [
        await asyncpg.connect(dsn, server_settings={"application_name": f"depositd {process}"})
        for process in ("elsewhere:1", "elsewhere:2")
    ]
    for each, table in ((hung, "cursor"), (other, "endpoint")):
        await each.execute(f"begin; lock table {table}")
        await each.prepare("select")  # asked with Flush, not Sync
    await pool.execute(
        "insert into lease (name, holder, process, until)"
        " values ('follow:net', $1, 'elsewhere:1', clock() - interval '1 second')",
        ONE,
    )
    assert await Lease(pool, "follow:net", TWO).take()
    async with asyncio.timeout(5), pool.acquire() as connection:
        await connection.execute("begin; lock table cursor; rollback")
    await other.execute("rollback")
    await other.close()
    hung.terminate()


async def test_status_names_who_leads_until_its_lease_lapses(pool: asyncpg.Pool) -> None:
    await pool.execute("insert into network (id, family) values ('net', 'evm'), ('other', 'evm')")
    await Lease(pool, f"{FOLLOW}net", ONE).take()
    assert await status.leaders(pool) == {"net": database.PROCESS}
    await pool.execute("update lease set until = clock() - interval '1 microsecond'")
    assert await status.leaders(pool) == {}
