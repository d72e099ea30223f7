// The browser's state machine behind a pipe: a line of JSON in, a line of JSON out.
import { createInterface } from "node:readline";
import { PayloadError } from "../../daemon/mutebridge/controller/browser/src/contract.js";
import { ControllerProtocol } from "../../daemon/mutebridge/controller/browser/src/protocol.js";

const made = new Map();

function carryOut({ id, method, given }) {
  if (method === "new") made.set(id, new ControllerProtocol(given[0]));
  if (method === "renewed") made.set(id, made.get(id).renewed(given[0]));
  if (method === "forget") return made.delete(id);
  const protocol = made.get(id);
  if (method === "received") given[1] = Buffer.from(given[1], "base64");
  const effects = method in protocol && method !== "renewed" ? protocol[method](...given) : undefined;
  const { up, seq, mic, call, ready, sizes, topics } = protocol;
  return { effects, up, seq, mic, call, ready, sizes, topics, wakeAt: protocol.wakeAt() };
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = carryOut(JSON.parse(line));
  } catch (error) {
    answer = { error: error instanceof PayloadError ? "PayloadError" : error.constructor.name, message: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
