import { onchainTable } from "ponder";

export const transfer = onchainTable("transfer", (column) => ({
  id: column.text().primaryKey(),
  token: column.hex().notNull(),
  sender: column.hex().notNull(),
  recipient: column.hex().notNull(),
  units: column.bigint().notNull(),
}));
