/**
 * A session controller: what a softphone developer puts between a web softphone and the mute buttons.
 *
 * `ControllerProtocol` keeps the rules of the contract; this gives it a broker, a clock, timers, and the leadership
 * among several tabs. Each time that this tab takes the lead, or comes back from the back/forward cache, is a new start
 * with a new epoch; the calls and the microphone that the softphone told of meanwhile are known to it.
 *
 * @typedef {import("./protocol.js").Effect} Effect
 * @typedef {import("./contract.js").Command} Command
 * @typedef {import("./contract.js").Action} Action
 * @typedef {{connected: boolean, leading: boolean, bridge: "online" | "offline" | "unknown", problem: string}} Status
 * @typedef {{
 *   broker: string, station: string, name?: string, username?: string, password?: string, prefix?: string,
 *   heartbeatS?: number, confirmTimeoutS?: number, lead?: boolean, allowPlaintext?: boolean,
 *   setMute: (muted: boolean, callId: string) => unknown,
 *   answer?: (callId: string) => unknown,
 *   hangUp?: (callId: string) => unknown,
 * }} Options
 */
import { SteadyClock } from "./clock.js";
import { Connection } from "./connection.js";
import { DEFAULT_PREFIX, PayloadError, callState, decodeAvailability, decodeObject, validName } from "./contract.js";
import { Leadership } from "./leadership.js";
import { isLoopback, validBroker } from "./pairing.js";
import { ControllerProtocol } from "./protocol.js";
import { Refused } from "./refused.js";
import { Timers } from "./timers.js";

export class SessionController extends EventTarget {
  #options;
  #clientId;
  #lockName;
  #clock = new SteadyClock();
  #toldSkipMs = 0;
  #protocol;
  /** @type {Leadership | null} */
  #leadership = null;
  /** @type {Timers | null} */
  #timers = null;
  /** @type {Connection | null} */
  #connection = null;
  /** @type {number | null} */
  #timer = null;
  #timerAt = Infinity;
  #started = false;
  /** @type {Status} */
  #status = { connected: false, leading: false, bridge: "unknown", problem: "" };
  /** @type {Effect[]} */
  #effects = [];
  #carryingOut = false;

  /** RangeError or TypeError for options that cannot be. @param {Options} options */
  constructor(options) {
    super();
    const { broker, station, name = "softphone", prefix = DEFAULT_PREFIX, heartbeatS = 5, allowPlaintext } = options;
    if (broker === undefined) throw new TypeError("no broker: is this page paired? takePairing() is null if not");
    const url = new URL(validBroker(broker));
    if (url.protocol === "ws:" && !isLoopback(url.hostname)) {
      const https = location.protocol === "https:"; // no browser lets such a page, whatever is allowed here
      const way = https ? "" : ", or set allowPlaintext and know the risk";
      if (https || !allowPlaintext) throw new TypeError(`broker ${broker}: on another machine use wss:${way}`);
    }
    if (typeof options.setMute !== "function") throw new TypeError("setMute: a function (muted, callId) is missing");
    this.#options = options;
    this.#protocol = new ControllerProtocol({
      station, name, prefix, heartbeatS,
      confirmTimeoutS: options.confirmTimeoutS,
      epoch: newEpoch(),
      clock: { wallMs: Date.now(), monotonicS: this.#clock.now() },
      can: [
        "set_mute",
        ...(options.answer ? [/** @type {const} */ ("answer")] : []),
        ...(options.hangUp ? [/** @type {const} */ ("hang_up")] : []),
      ],
    });
    this.#clientId = `mutebridge-controller:${validName("station", station)}:${validName("controller", name)}`;
    // Tabs with different credentials are no rivals: a refused one must not keep the lead from one that would be let in.
    this.#lockName = `${broker} ${prefix} ${this.#clientId} ${fingerprint(`${options.username} ${options.password}`)}`;
  }

  /** @returns {Readonly<Status>} */
  get status() {
    return this.#status;
  }

  /** Connect to the broker, for as long as it takes, as soon as no other tab serves it. */
  start() {
    if (this.#started) return;
    this.#started = true;
    addEventListener("pagehide", this.#onPageHide);
    addEventListener("pageshow", this.#onPageShow);
    this.#seek();
  }

  /** Say `offline` and disconnect, within a second or so; another tab may take over. `start` starts again. */
  async stop() {
    if (!this.#started) return;
    this.#started = false;
    removeEventListener("pagehide", this.#onPageHide);
    removeEventListener("pageshow", this.#onPageShow);
    const { timers, connection, leadership } = this.#resign();
    await connection?.stop(this.#protocol.farewell());
    leadership?.leave();
    timers?.close();
  }

  /**
   * Say what a call does: `ringing`, `dialing`, `connected`, `held`, `disconnected`; other words: not connected. With
   * several calls, give each an id that is never used again. RangeError for an id that is empty or over 256 characters.
   * @param {string} state @param {string | null} callId
   */
  callChanged(state, callId = null) {
    this.#carryOut(this.#protocol.callChanged(callState(state), callId, this.#clock.now()));
  }

  /**
   * Say what the microphone does: whenever it changes, and once in every new call; null when it is not known any more.
   * @param {boolean | null} muted
   */
  micChanged(muted) {
    if (muted !== null && typeof muted !== "boolean") {
      throw new TypeError(`micChanged(${muted}): true for muted, false, or null for unknown`);
    }
    this.#carryOut(this.#protocol.micChanged(muted, this.#clock.now()));
  }

  // --- the page and its tabs

  #seek() {
    this.#timers = new Timers();
    if (this.#options.lead === false) {
      this.#takeTheLead();
      return;
    }
    this.#leadership = new Leadership(this.#lockName, () => this.#takeTheLead());
    this.#leadership.seek();
  }

  #takeTheLead() {
    if (!this.#started || !this.#timers || this.#connection) return;
    this.#protocol = this.#protocol.renewed(newEpoch());
    const { topics } = this.#protocol;
    const { broker, username, password } = this.#options;
    this.#connection = new Connection({
      url: broker,
      clientId: this.#clientId,
      username,
      password,
      will: this.#protocol.farewell(),
      // In this order: what a bridge or a late will says is not missed while commands already come.
      subscriptions: { [topics.command]: 0, [topics.bridge]: 1, [topics.availability]: 1, [topics.event]: 0 },
      timers: this.#timers,
      onUp: () => {
        this.#say({ connected: true, problem: "" });
        this.#carryOut(this.#protocol.connected(this.#clock.now()));
      },
      onLost: () => {
        this.#protocol.lost();
        this.#say({ connected: false, bridge: "unknown" });
      },
      onMessage: (topic, payload) => this.#received(topic, payload),
      onProblem: (problem) => this.#warn(problem),
    });
    this.#say({ leading: true });
    this.#connection.start();
  }

  /** Have done with the lead, or with waiting for it; return what is to be closed. */
  #resign() {
    const had = { timers: this.#timers, connection: this.#connection, leadership: this.#leadership };
    this.#protocol.lost();
    this.#timers = this.#connection = this.#leadership = this.#timer = null;
    this.#timerAt = Infinity;
    this.#say({ connected: false, leading: false, bridge: "unknown", problem: "" });
    return had;
  }

  /** The page is closed, reloaded, or put away; nothing can be waited for. */
  #onPageHide = () => {
    const { timers, connection, leadership } = this.#resign();
    connection?.leave();
    timers?.close();
    leadership?.leave();
  };

  /** @param {PageTransitionEvent} event the page was put away, and is back */
  #onPageShow = ({ persisted }) => {
    if (persisted && !this.#timers) this.#seek();
  };

  // --- the broker

  /** @param {string} topic @param {Uint8Array} payload */
  #received(topic, payload) {
    const { topics } = this.#protocol;
    try {
      if (topic === topics.event) {
        this.#tell("press", decodeObject(topic, payload));
        return;
      }
      if (topic === topics.bridge) {
        const online = decodeAvailability(topic, payload);
        this.#say({ bridge: online === null ? "unknown" : online ? "online" : "offline" });
      }
      this.#carryOut(this.#protocol.received(topic, payload, this.#clock.now()));
    } catch (problem) {
      if (!(problem instanceof PayloadError)) throw problem;
      this.#warn(problem.message);
    }
  }

  // --- the softphone

  /** Publish in order, ask the softphone, tell who listens. What they say from inside is carried out after. */
  #carryOut(/** @type {Effect[]} */ effects) {
    this.#effects.push(...effects);
    if (this.#carryingOut) return;
    this.#carryingOut = true;
    try {
      while (this.#effects.length || this.#protocol.ready) {
        const effect = this.#effects.shift();
        if (!effect) this.#effects.push(...this.#protocol.begin(this.#clock.now()));
        else if (effect.kind === "publish") this.#connection?.publish(effect);
        else if (effect.kind === "perform") this.#ask(effect.command);
        else this.#tell("command", outcomeOf(effect));
      }
    } finally {
      this.#carryingOut = false;
    }
    if (this.#toldSkipMs !== this.#clock.skippedMs) this.#tellTime();
    else this.#keepTime();
  }

  /** @param {Command} command */
  async #ask(command) {
    let refusal = null;
    try {
      const callId = command.call_id ?? this.#protocol.call.callId ?? "";
      if (command.action === "set_mute") await this.#options.setMute(command.muted === true, callId);
      else if (command.action === "answer") await this.#options.answer?.(callId);
      else await this.#options.hangUp?.(callId);
    } catch (error) {
      refusal = refusalFrom(error);
      if (!(error instanceof Refused)) console.error(`mutebridge: the softphone's ${command.action} threw`, error);
    }
    this.#carryOut(this.#protocol.performed(this.#clock.now(), refusal));
  }

  /** The clock has caught up: the bridge dates its commands by what it was told last. */
  #tellTime() {
    this.#toldSkipMs = this.#clock.skippedMs;
    this.#carryOut(this.#protocol.up ? this.#protocol.connected(this.#clock.now()) : []);
  }

  #keepTime() {
    const at = this.#timers ? (this.#protocol.wakeAt() ?? Infinity) : Infinity;
    if (at === this.#timerAt) return;
    this.#timers?.clear(this.#timer);
    this.#timerAt = at;
    this.#timer = null;
    if (at === Infinity || !this.#timers) return;
    const rest = () => Math.max(0, Math.ceil((at - this.#clock.now()) * 1000));
    this.#timer = this.#timers.set(() => {
      this.#timerAt = Infinity;
      this.#carryOut(this.#protocol.timeCame(this.#clock.now()));
    }, rest());
  }

  // --- who listens

  /** @param {Partial<Status>} change */
  #say(change) {
    const before = this.#status;
    const status = { ...before, ...change };
    if (JSON.stringify(status) === JSON.stringify(before)) return;
    this.#status = status;
    this.#tell("status", status);
  }

  /** @param {string} problem */
  #warn(problem) {
    if (problem !== this.#status.problem) console.warn(`mutebridge: ${problem}`);
    this.#say({ problem });
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** FNV-1a of 32 bits: tells texts apart, and keeps them out of what every script of the origin can list. */
function fingerprint(/** @type {string} */ text) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}

const newEpoch = () => crypto.getRandomValues(new BigUint64Array(1))[0].toString(16).padStart(16, "0");

/** @param {import("./protocol.js").Settled} settled */
function outcomeOf({ command, result }) {
  const outcome = result.ok ? "ok" : /** @type {string} */ (result.error);
  return { ...command, outcome, reason: result.detail ?? "" };
}

/** @param {unknown} error @returns {import("./protocol.js").Refusal} */
function refusalFrom(error) {
  if (error instanceof Refused) return { error: error.error, detail: error.detail };
  const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return { error: "failed", detail };
}
