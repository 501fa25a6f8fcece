"use strict";
// Compiles Solidity sources to JSON: node compile.js FILE.sol... > artifacts.json
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const sources = {};
for (const file of process.argv.slice(2)) {
  sources[path.basename(file)] = { content: fs.readFileSync(file, "utf8") };
}
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources,
      settings: {
        evmVersion: "cancun",
        optimizer: { enabled: true },
        outputSelection: {
          "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] },
        },
      },
    }),
  ),
);
const errors = (output.errors || []).filter((each) => each.severity === "error");
if (errors.length > 0) {
  process.stderr.write(errors.map((each) => each.formattedMessage).join("\n"));
  process.exit(1);
}
const artifacts = {};
for (const contracts of Object.values(output.contracts)) {
  for (const [name, contract] of Object.entries(contracts)) {
    artifacts[name] = {
      abi: contract.abi,
      bytecode: "0x" + contract.evm.bytecode.object,
      runtime: "0x" + contract.evm.deployedBytecode.object,
    };
  }
}
process.stdout.write(JSON.stringify(artifacts));
