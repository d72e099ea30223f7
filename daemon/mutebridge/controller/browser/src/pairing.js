/**
 * What a page must know to serve a station: where the broker is, for whom, with which credential.
 *
 * A pairing link carries it in its fragment, which browsers send to no server:
 * `#mutebridge=` and, in base64url, the JSON `{"v":1,"broker","station","name","username","password","prefix"?}`.
 *
 * @typedef {{
 *   broker: string, station: string, name: string, username: string, password: string, prefix: string,
 * }} Pairing
 */
import { DEFAULT_PREFIX, validName, validPrefix } from "./contract.js";

const KEY = "mutebridge";
const VERSION = 1;
const STORED = "mutebridge.pairing";

/**
 * @param {string | URL | Location | object} source a URL, a fragment, or the JSON's object
 * @returns {Pairing | null} null for a URL without one; TypeError or RangeError for one that cannot be used
 */
export function readPairing(source) {
  const isObject = typeof source === "object" && !("hash" in source);
  const said = isObject ? source : unpacked(typeof source === "string" ? source : String(source));
  return said === null ? null : checked(/** @type {Record<string, unknown>} */ (said));
}

/**
 * The pairing of this page: the one in its address, which is taken out of the address and kept, else the one kept.
 * Kept means: in localStorage, where every script of this origin can read it.
 *
 * Anybody can make a link and get a person to open it; whoever has the broker of a softphone can press its button. So a
 * link may name a broker on this machine or one of `brokers`, and no other.
 * @param {...string} brokers ws:// or wss:// URLs; "*": any, where a Content-Security-Policy says which
 * @returns {Pairing | null}
 */
export function takePairing(...brokers) {
  addEventListener("hashchange", loadAnew); // once, however often it is added
  const { hash } = location;
  if (partOf(hash) === null) return keptPairing();
  const rest = hash.slice(1).split("&").filter((part) => !part.startsWith(`${KEY}=`)).join("&");
  const address = location.pathname + location.search + (rest && `#${rest}`);
  history.replaceState(history.state, "", address); // first: the password must not stay there, even where it is bad
  const pairing = readPairing(hash);
  if (pairing !== null) checkKnown(pairing.broker, brokers);
  try {
    localStorage.setItem(STORED, JSON.stringify(pairing));
  } catch {
    // A browser without storage asks for the link again.
  }
  return pairing;
}

/** @param {string} broker @param {string[]} known */
function checkKnown(broker, known) {
  const { hostname, origin } = new URL(broker);
  if (isLoopback(hostname) || known.includes("*")) return;
  if (known.some((url) => new URL(validBroker(url)).origin === origin)) return;
  throw new TypeError(
    `this link leads to the broker ${origin}, which the page does not know, so it is not followed; a page that is to ` +
      `use that broker says so: takePairing("${origin}")`,
  );
}

/** Of a link that is opened where its page is open already, a browser only changes the fragment. */
function loadAnew() {
  if (partOf(location.hash) !== null) location.reload();
}

/** Forget what `takePairing` kept. */
export function forgetPairing() {
  try {
    localStorage.removeItem(STORED);
  } catch {
    // Nothing was kept.
  }
}

function keptPairing() {
  try {
    return readPairing(JSON.parse(localStorage.getItem(STORED) ?? '""'));
  } catch {
    return null;
  }
}

/** @param {string} text a URL or a fragment @returns {string | null} */
function partOf(text) {
  const parts = text.slice(text.indexOf("#") + 1).split("&");
  return parts.find((part) => part.startsWith(`${KEY}=`))?.slice(KEY.length + 1) ?? null;
}

/** @param {string} text */
function unpacked(text) {
  const part = partOf(text);
  if (part === null) return null;
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));
    return Object(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch {
    throw new TypeError("this pairing link is damaged, perhaps cut off: copy the whole link");
  }
}

/** @param {Record<string, unknown>} said @returns {Pairing} */
function checked(said) {
  if ((said.v ?? VERSION) !== VERSION) {
    throw new TypeError(`a pairing of version ${said.v}, and version ${VERSION} is known here: update this page`);
  }
  const { broker, station, name, username, password, prefix } = said;
  for (const [key, value] of Object.entries({ broker, station, name, username, password })) {
    if (typeof value !== "string") throw new TypeError(`pairing: ${key} is missing, a text`);
  }
  return {
    broker: validBroker(String(broker)),
    station: validName("station", station),
    name: validName("controller", name),
    username: String(username),
    password: String(password),
    prefix: validPrefix(String(prefix ?? DEFAULT_PREFIX)),
  };
}

/** @param {string} hostname as a URL has it */
export function isLoopback(hostname) {
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** @param {string} broker @returns {string} TypeError unless it is the URL of a WebSocket */
export function validBroker(broker) {
  if (!/^wss?:\/\/[^/]/.test(broker) || !URL.canParse(broker)) {
    throw new TypeError(`broker ${JSON.stringify(broker)}: ws://host:port or wss://host:port/path`);
  }
  const { username, password } = new URL(broker);
  if (username || password) throw new TypeError("broker: user and password have fields of their own");
  return broker;
}
