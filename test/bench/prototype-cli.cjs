// The barest command line there can be: one request over a Unix socket, one answer.
"use strict";
const [, , socketPath, worker, text] = process.argv;
const socket = require("node:net").connect(socketPath);
socket.write(`${JSON.stringify({ worker, text })}\n`);
let answer = "";
socket.on("data", (chunk) => {
  answer += chunk;
  if (!answer.endsWith("\n")) return;
  process.stdout.write(answer);
  process.exit(0);
});
socket.on("close", () => process.exit(1));
