// Every ERC-20 Transfer as a row, a transaction a batch.
const { EvmBatchProcessor } = require("@subsquid/evm-processor");
const { Client } = require("pg");

const TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
const last = Number(process.env.LAST);
const client = new Client({ connectionString: process.env.DATABASE_URL });

const database = {
  supportsHotBlocks: false,
  async connect() {
    await client.connect();
    await client.query(
      `create table transfer (block bigint, position int, tx text, token text, sender text,
         recipient text, units numeric(78, 0), primary key (block, position))`,
    );
    return { height: -1, hash: "0x" };
  },
  async transact(_info, store) {
    await client.query("begin");
    await store(client);
    await client.query("commit");
  },
};

const processor = new EvmBatchProcessor()
  .setRpcEndpoint({ url: process.env.RPC_URL, capacity: 4, rateLimit: 100000, maxBatchCallSize: 50 })
  .setFinalityConfirmation(10)
  .setBlockRange({ from: 1, to: last })
  .addLog({ topic0: [TRANSFER] })
  .setFields({ log: { transactionHash: true, address: true, topics: true, data: true } });

processor.run(database, async (context) => {
  const columns = [[], [], [], [], [], [], []];
  for (const block of context.blocks) {
    for (const log of block.logs) {
      if (log.topics.length !== 3) continue;
      const row = [
        block.header.height, log.logIndex, log.transactionHash, log.address,
        "0x" + log.topics[1].slice(26), "0x" + log.topics[2].slice(26), BigInt(log.data).toString(),
      ];
      row.forEach((value, at) => columns[at].push(value));
    }
  }
  await context.store.query(
    `insert into transfer select * from unnest($1::bigint[], $2::int[], $3::text[], $4::text[],
       $5::text[], $6::text[], $7::numeric[]) on conflict do nothing`,
    columns,
  );
});
