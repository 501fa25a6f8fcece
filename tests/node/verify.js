"use strict";
// Verifies callbacks with the public library. Reads JSON lines {secret, headers, body} from stdin,
// body in base64; writes for each {event}, parsed by the library, or {error}.
const readline = require("readline");
const { Webhook } = require("standardwebhooks");

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { secret, headers, body } = JSON.parse(line);
  let verdict;
  try {
    verdict = { event: new Webhook(secret).verify(Buffer.from(body, "base64"), headers) };
  } catch (error) {
    verdict = { error: error.message };
  }
  process.stdout.write(JSON.stringify(verdict) + "\n");
});
