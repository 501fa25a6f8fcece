import { createConfig } from "ponder";
import { parseAbi } from "viem";

export default createConfig({
  database: { kind: "postgres", connectionString: process.env.DATABASE_URL },
  chains: {
    bench: { id: Number(process.env.CHAIN_ID), rpc: process.env.RPC_URL, disableCache: true },
  },
  contracts: {
    Token: {
      abi: parseAbi(["event Transfer(address indexed from, address indexed to, uint256 value)"]),
      chain: "bench",
      startBlock: 1,
      endBlock: Number(process.env.LAST),
    },
  },
});
