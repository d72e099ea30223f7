/**
 * The MQTT contract, version 1, as far as a controller needs it: topics, payloads, limits.
 *
 * `mutebridge.core.contract` is the original; what comes in is untrusted, and PayloadError says where it came from and
 * what is wrong with it.
 *
 * @typedef {"ringing" | "dialing" | "connected" | "held" | "disconnected" | "other"} CallState
 * @typedef {"set_mute" | "answer" | "hang_up"} Action
 * @typedef {"not_connected" | "not_allowed" | "missing_scope" | "expired" | "stale" | "failed"} CommandError
 * @typedef {{
 *   request_id: string, action: Action, expires_at: number, muted: boolean | null, call_id: string | null,
 *   epoch: string | null, mic_seq: number | null, source: {device: string, name: string | null} | null,
 * }} Command
 * @typedef {{request_id: string, ok: boolean, error?: CommandError, detail?: string}} Result
 */

export const MAX_PAYLOAD_BYTES = 4096;
export const DEFAULT_PREFIX = "mutebridge/v1";
const MAX_PREFIX_BYTES = 256;
const MAX_ID = 256;
const MAX_NUMBER = 2 ** 53;
const CALL_STATES = ["ringing", "dialing", "connected", "held", "disconnected"];
const ACTIONS = ["set_mute", "answer", "hang_up"];

/** A payload that cannot be read: the message says the topic and what is wrong. */
export class PayloadError extends Error {}

/** @param {string} word @returns {CallState} any word that is not named in the contract is `other`, not connected */
export function callState(word) {
  return CALL_STATES.includes(word) ? /** @type {CallState} */ (word) : "other";
}

/** Characters as people count them, not UTF-16 units. @param {string} text */
export const lengthOf = (text) => Array.from(text).length;

/** @param {unknown} value @returns {value is string} */
export const isId = (value) => typeof value === "string" && value !== "" && lengthOf(value) <= MAX_ID;

/** @param {string} what @param {unknown} name @returns {string} lower-cased; RangeError unless it matches */
export function validName(what, name) {
  const lowered = String(name).toLowerCase();
  if (!/^[a-z0-9._-]{1,64}$/.test(lowered)) {
    throw new RangeError(`${what} ${JSON.stringify(name)}: 1 to 64 of the letters a-z, digits, '.', '_' and '-'`);
  }
  return lowered;
}

/** @param {string} prefix @returns {string} RangeError for one that cannot be */
export function validPrefix(prefix) {
  if (!/^[^/+#\s]+(\/[^/+#\s]+)*$/.test(prefix) || /\p{C}/u.test(prefix)) {
    throw new RangeError(
      `prefix ${JSON.stringify(prefix)}: levels separated by single slashes, without '+', '#' or blanks`,
    );
  }
  if (new TextEncoder().encode(prefix).length > MAX_PREFIX_BYTES) {
    throw new RangeError(`prefix: at most ${MAX_PREFIX_BYTES} bytes are allowed`);
  }
  return prefix;
}

/** The topics of one controller. @param {string} prefix @param {string} station @param {string} name */
export function topicsOf(prefix, station, name) {
  const root = `${validPrefix(prefix)}/${validName("station", station)}`;
  const own = `${root}/controller/${validName("controller", name)}`;
  return {
    availability: `${own}/availability`,
    call: `${own}/call`,
    mic: `${own}/mic`,
    command: `${own}/command`,
    result: `${own}/result`,
    bridge: `${root}/bridge/availability`,
    event: `${root}/bridge/event`,
  };
}

/** @param {string} topic @param {Uint8Array} payload @returns {boolean | null} null when deleted */
export function decodeAvailability(topic, payload) {
  const word = text(topic, payload).trim();
  if (word === "") return null;
  if (word === "online") return true;
  if (word === "offline") return false;
  throw new PayloadError(`${topic}: ${JSON.stringify(word.slice(0, 80))}; 'online' or 'offline' is allowed`);
}

/** @param {string} topic @param {Uint8Array} payload @returns {Record<string, unknown>} a JSON object */
export function decodeObject(topic, payload) {
  const said = text(topic, payload);
  let value;
  try {
    value = JSON.parse(said);
  } catch (error) {
    throw new PayloadError(`${topic}: ${/** @type {Error} */ (error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new PayloadError(`${topic}: a JSON object is allowed; it was ${JSON.stringify(said.slice(0, 80))}`);
  }
  return value;
}

/** What is known of a command that breaks the contract. */
export class CommandProblem extends PayloadError {
  /** @param {string} message @param {string} requestId */
  constructor(message, requestId) {
    super(message);
    this.requestId = requestId;
  }
}

/**
 * @param {string} topic @param {Uint8Array} payload
 * @returns {Command} CommandProblem where it can at least be answered, else PayloadError
 */
export function decodeCommand(topic, payload) {
  const said = decodeObject(topic, payload);
  const id = said.request_id;
  if (!isId(id)) throw new PayloadError(`${topic}: a request_id of 1 to ${MAX_ID} characters is missing`);
  /** @param {boolean} good @param {string} key @param {string} allowed */
  const check = (good, key, allowed) => {
    if (!good) {
      const was = JSON.stringify(said[key])?.slice(0, 80) ?? "missing";
      throw new CommandProblem(`${topic}: ${key} is ${was}; ${allowed} is allowed`, id);
    }
  };
  /** @param {string} key */
  const value = (key) => said[key] ?? null;
  const { action, expires_at, muted, call_id, epoch, mic_seq, source } = {
    action: value("action"), expires_at: value("expires_at"), muted: value("muted"), call_id: value("call_id"),
    epoch: value("epoch"), mic_seq: value("mic_seq"), source: value("source"),
  };
  check(typeof action === "string" && ACTIONS.includes(action), "action", ACTIONS.join(", "));
  check(isNumber(expires_at), "expires_at", "a number of milliseconds");
  check(muted === null || typeof muted === "boolean", "muted", "true or false");
  check(call_id === null || isId(call_id), "call_id", `a text of 1 to ${MAX_ID} characters`);
  check(epoch === null || isId(epoch), "epoch", `a text of 1 to ${MAX_ID} characters`);
  check(mic_seq === null || (isNumber(mic_seq) && Number.isInteger(mic_seq)), "mic_seq", "a whole number");
  check(source === null || isSource(source), "source", "an object with a device");
  return /** @type {Command} */ ({ request_id: id, action, expires_at, muted, call_id, epoch, mic_seq, source });
}

/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => typeof value === "number" && value >= 0 && value <= MAX_NUMBER;

/** @param {unknown} value */
function isSource(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const { device, name } = /** @type {Record<string, unknown>} */ (value);
  return typeof device === "string" && (name === undefined || name === null || typeof name === "string");
}

/** @param {string} topic @param {Uint8Array} payload */
function text(topic, payload) {
  if (payload.length > MAX_PAYLOAD_BYTES) {
    throw new PayloadError(`${topic}: ${payload.length} bytes; at most ${MAX_PAYLOAD_BYTES} are allowed`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(payload);
  } catch {
    throw new PayloadError(`${topic}: not UTF-8`);
  }
}
