/**
 * The controller's side of the MQTT contract, as a pure state machine.
 *
 * The same rules, in the same order, as `mutebridge.controller.protocol`, whose theory of operation is this one's too;
 * one set of tests drives both. Nothing here reads a clock, opens a socket or sets a timer: messages, the softphone's
 * events and the time go in, what to publish and whether to call the softphone come out.
 *
 * In short: only `micChanged` says what the microphone does. One command at a time is in flight, checked once more at
 * the very moment at which the softphone is asked; a newer one takes the place of the one that waits. An unmute that
 * the softphone neither confirmed nor refused leaves the microphone unknown. Answers are kept by request_id.
 *
 * @typedef {import("./contract.js").Command} Command
 * @typedef {import("./contract.js").CommandError} CommandError
 * @typedef {import("./contract.js").CallState} CallState
 * @typedef {import("./contract.js").Action} Action
 * @typedef {import("./contract.js").Result} Result
 *
 * `publish` at QoS 1, an empty retained payload deletes. `perform`: ask the softphone, then report with `performed`.
 * `settled`: what became of a command, for whoever watches.
 * @typedef {{kind: "publish", topic: string, payload: string, retain: boolean}} Publish
 * @typedef {{kind: "perform", command: Command}} Perform
 * @typedef {{kind: "settled", command: Command, result: Result}} Settled
 * @typedef {Publish | Perform | Settled} Effect
 *
 * Milliseconds since the Unix epoch that never step: the wall clock once, then `now`, in seconds.
 * @typedef {{wallMs: number, monotonicS: number}} Clock
 * @typedef {{
 *   station: string, name: string, epoch: string, clock: Clock, prefix: string, heartbeatS: number, can: Action[],
 *   confirmTimeoutS?: number,
 * }} Settings
 * @typedef {{state: CallState, callId: string | null}} Call
 * @typedef {{error: CommandError, detail: string}} Refusal
 * @typedef {{command: Command, callId: string | null, deadline: number}} InFlight
 */
import {
  CommandProblem, decodeAvailability, decodeCommand, isId, lengthOf, topicsOf,
} from "./contract.js";

/** How long a command in flight may wait for the microphone to say that it changed, unless it is told otherwise. */
export const CONFIRM_TIMEOUT_S = 1;
/** A command that would stay valid for longer is refused: the contract says two seconds. */
const MAX_EXPIRY_AHEAD_S = 60;
/** How many answers are kept. */
export const MAX_REMEMBERED = 256;
/** How many calls are followed at once; an older one beyond that was never reported as ended. */
const MAX_CALLS = 16;
const MAX_DETAIL = 1024;

// Which of several calls uses the microphone: the connected one, else the one on hold, else the one being set up.
const CLAIM = { connected: 4, held: 3, dialing: 2, ringing: 1, other: 0, disconnected: -1 };
const LIVE = ["ringing", "dialing", "connected", "held"];

/** One session controller. `now` is always a monotonic time in seconds; effects want to be carried out in order. */
export class ControllerProtocol {
  /** The broker connection is up, subscribed. */
  up = false;
  seq = 0;
  /** What the microphone does, as last said in this call. @type {boolean | null} */
  mic = null;

  #settings;
  /** @type {Map<string, CallState>} */
  #calls = new Map();
  /** @type {Call} */
  #call = { state: "disconnected", callId: null };
  #unnamedCalls = 0;
  #handSeq = 0;
  /** @type {Map<string, {expiresAt: number, result: Result | null, acted: boolean}>} */
  #answers = new Map();
  /** @type {Command | null} */
  #next = null;
  /** @type {InFlight | null} */
  #inFlight = null;
  #softphoneBusy = false;
  /** @type {number | null} */
  #micSaidAt = null;

  /** RangeError for a station, name, prefix or heartbeat that cannot be. @param {Settings} settings */
  constructor(settings) {
    const { prefix, station, name, heartbeatS } = settings;
    this.topics = topicsOf(prefix, station, name);
    if (!(heartbeatS > 0 && heartbeatS <= 3600)) {
      throw new RangeError(`heartbeat_s ${heartbeatS}: seconds, more than 0 and at most 3600`);
    }
    this.#settings = settings;
  }

  /** A new start: the same calls and microphone, and nothing that an earlier epoch said. @param {string} epoch */
  renewed(epoch) {
    const next = new ControllerProtocol({ ...this.#settings, epoch });
    next.#calls = new Map(this.#calls);
    next.#call = this.#call;
    next.mic = this.mic && this.#unmuting() ? null : this.mic;
    next.#softphoneBusy = this.#softphoneBusy; // its answer will come to the new one
    return next;
  }

  // --- what can be asked at any time

  get epoch() {
    return this.#settings.epoch;
  }

  get call() {
    return this.#call;
  }

  /** A command waits, and the softphone is free for it. */
  get ready() {
    return this.#next !== null && this.#inFlight === null && !this.#softphoneBusy;
  }

  /** For tests: what must stay bounded. */
  get sizes() {
    return { calls: this.#calls.size, answers: this.#answers.size };
  }

  /** When `timeCame` is wanted, null for never: at rest and outside of calls nothing wakes. */
  wakeAt() {
    const moments = [];
    if (this.#inFlight) moments.push(this.#inFlight.deadline);
    if (this.#next && !this.ready) moments.push(this.#moment(this.#next.expires_at));
    const heartbeat = this.#heartbeatAt();
    if (heartbeat !== null) moments.push(heartbeat);
    return moments.length ? Math.min(...moments) : null;
  }

  // --- the broker

  /** The broker connection is up, subscribed. @param {number} now @returns {Effect[]} */
  connected(now) {
    this.up = true;
    return this.#announce(now);
  }

  /** The broker connection is gone. Commands that were accepted keep their time. */
  lost() {
    this.up = false;
  }

  /** What an orderly end publishes, and the will. @returns {Publish} */
  farewell() {
    return { kind: "publish", topic: this.topics.availability, payload: "offline", retain: true };
  }

  /**
   * A message; PayloadError for one that can neither be read nor answered.
   * @param {string} topic @param {Uint8Array} payload @param {number} now @returns {Effect[]}
   */
  received(topic, payload, now) {
    if (topic === this.topics.command) return payload.length ? this.#command(payload, now) : [];
    // Its own availability is read to find a late will of its own dead connection.
    const again =
      (topic === this.topics.bridge && this.up && decodeAvailability(topic, payload) === true) ||
      (topic === this.topics.availability && this.up && decodeAvailability(topic, payload) !== true);
    return again ? this.#announce(now) : [];
  }

  // --- the softphone

  /**
   * A call of the softphone changed; without an id, its only one. RangeError for an impossible id.
   * @param {CallState} state @param {string | null} callId @param {number} now @returns {Effect[]}
   */
  callChanged(state, callId, now) {
    if (callId !== null && !isId(callId)) {
      throw new RangeError(`call_id of ${lengthOf(String(callId))} characters; 1 to 256 are allowed`);
    }
    this.#follow(state, callId ?? this.#unnamedCall());
    const before = this.#call;
    this.#call = this.#currentCall(before.callId);
    if (this.#call.state === before.state && this.#call.callId === before.callId) return [];
    const another = before.state !== "disconnected" && this.#call.callId !== before.callId;
    if (another || this.#call.state === "disconnected") {
      this.mic = null; // what is said between two calls is about the next one
      this.#handSeq = 0;
    }
    return [...this.#giveUpWithoutCall(), ...this.#publishCall(now), ...this.#publishMic(now)];
  }

  /**
   * The softphone says what the microphone does; null: it does not know any more.
   * @param {boolean | null} muted @param {number} now @returns {Effect[]}
   */
  micChanged(muted, now) {
    const changed = muted !== this.mic;
    this.mic = muted;
    const command = this.#inFlight?.command;
    // The first change to what the command in flight asks for is its own, any other is a hand's.
    if (command?.action === "set_mute" && command.muted === muted) return this.#succeed(command, now);
    const effects = this.#publishMic(now);
    if (changed && muted !== null) this.#handSeq = this.seq;
    return effects;
  }

  /** Take the next command when `ready`: at most one `perform`, after a last look at the gate. @param {number} now */
  begin(now) {
    if (!this.ready || !this.#next) return [];
    const command = this.#next;
    this.#next = null;
    const refusal = this.#gate(command, now);
    if (refusal) return this.#answer(command, refusal);
    const known = this.#answers.get(command.request_id);
    if (known) known.acted = true;
    if (command.action === "set_mute" && command.muted === false && this.mic === false) {
      // Nothing to do, and not doing it cannot undo a mute by hand that is still on its way to us.
      return this.#succeed(command, now);
    }
    this.#softphoneBusy = true;
    this.#inFlight = { command, callId: this.#call.callId, deadline: now + this.#confirmTimeoutS };
    return [/** @type {Effect} */ ({ kind: "perform", command })];
  }

  /**
   * The callback returned; `refusal` when the softphone refused, which leaves the microphone as it was.
   * @param {number} now @param {Refusal | null} refusal @returns {Effect[]}
   */
  performed(now, refusal = null) {
    this.#softphoneBusy = false;
    if (!this.#inFlight) return []; // answered meanwhile
    const { command } = this.#inFlight;
    if (refusal) {
      this.#inFlight = null;
      // Said again: the bridge went dark when it sent an unmute.
      const again = command.action === "set_mute" ? this.#publishMic(now) : [];
      return [...again, ...this.#answer(command, refusal)];
    }
    return command.action !== "set_mute" || this.mic === command.muted ? this.#succeed(command, now) : [];
  }

  /** Whatever is due: a heartbeat, a command in flight without answer, one that waited too long. @param {number} now */
  timeCame(now) {
    /** @type {Effect[]} */
    const effects = [];
    if (this.#inFlight && now >= this.#inFlight.deadline) {
      const what = this.#softphoneBusy ? "did not return" : "returned, but the softphone reported no change";
      const detail = `the softphone's callback ${what} within ${this.#confirmTimeoutS} s`;
      effects.push(...this.#giveUp({ error: "failed", detail }));
    }
    if (this.#next && !this.ready && this.#at(now) >= this.#next.expires_at) {
      const command = this.#next;
      this.#next = null;
      effects.push(...this.#answer(command, { error: "expired", detail: "an earlier command held up the softphone" }));
    }
    const heartbeat = this.#heartbeatAt();
    if (heartbeat !== null && now >= heartbeat) effects.push(...this.#publishMic(now));
    return effects;
  }

  // --- calls

  #unnamedCall() {
    const { callId } = this.#call;
    if (callId && this.#calls.has(callId)) return callId;
    this.#unnamedCalls += 1;
    return `${this.epoch}-${this.#unnamedCalls}`;
  }

  /** @param {CallState} state @param {string} callId */
  #follow(state, callId) {
    if (state === "disconnected") {
      this.#calls.delete(callId);
    } else if (this.#calls.get(callId) !== state) {
      this.#calls.delete(callId); // the latest change stands last
      this.#calls.set(callId, state);
    }
    for (const each of this.#calls.keys()) {
      if (this.#calls.size <= MAX_CALLS) break;
      if (each !== this.#call.callId) this.#calls.delete(each);
    }
  }

  /** @param {string | null} beforeId @returns {Call} */
  #currentCall(beforeId) {
    if (!this.#calls.size) return { state: "disconnected", callId: beforeId };
    const preferred = [...this.#calls].reverse();
    if (!preferred.some(([, state]) => state === "connected")) {
      // The latest connected call wins, but one that rings or waits does not take the place of its equal.
      preferred.sort(([one], [other]) => Number(one !== beforeId) - Number(other !== beforeId));
    }
    const [callId, state] = preferred.reduce((best, each) => (CLAIM[each[1]] > CLAIM[best[1]] ? each : best));
    return { state, callId };
  }

  #giveUpWithoutCall() {
    const flight = this.#inFlight;
    if (flight?.command.action !== "set_mute") return [];
    if (this.#call.state === "connected" && this.#call.callId === flight.callId) return [];
    return this.#giveUp({ error: "not_connected", detail: "the call changed before the microphone did" });
  }

  // --- what is said

  /** @param {number} now @returns {Effect[]} */
  #announce(now) {
    return [
      ...this.#publishMic(now),
      ...this.#publishCall(now),
      { kind: "publish", topic: this.topics.availability, payload: "online", retain: true },
    ];
  }

  /** @param {number} now @returns {Effect[]} */
  #publishCall(now) {
    this.seq += 1;
    const { state, callId: call_id } = this.#call;
    return this.#say(this.topics.call, {
      state, call_id, epoch: this.epoch, seq: this.seq, at: this.#at(now), heartbeat_s: this.#settings.heartbeatS,
    });
  }

  /** @param {number} now @param {string | null} request_id @returns {Effect[]} */
  #publishMic(now, request_id = null) {
    this.seq += 1;
    this.#micSaidAt = now;
    // "muted" is not claimed while an unmute is in flight.
    if (this.mic === null || (this.mic && this.#unmuting())) return this.#say(this.topics.mic, null);
    return this.#say(this.topics.mic, {
      muted: this.mic, call_id: this.#call.callId, epoch: this.epoch, seq: this.seq, at: this.#at(now), request_id,
    });
  }

  /** @param {string} topic @param {object | null} message @param {boolean} retain @returns {Effect[]} */
  #say(topic, message, retain = true) {
    if (!this.up) return [];
    const payload = message ? JSON.stringify(message, (_key, value) => value ?? undefined) : "";
    return [{ kind: "publish", topic, payload, retain }];
  }

  get #confirmTimeoutS() {
    return this.#settings.confirmTimeoutS ?? CONFIRM_TIMEOUT_S;
  }

  #unmuting() {
    return this.#inFlight?.command.action === "set_mute" && this.#inFlight.command.muted === false;
  }

  #heartbeatAt() {
    const connected = this.up && this.#call.state === "connected";
    if (!connected || this.mic === null || this.#unmuting() || this.#micSaidAt === null) return null;
    return this.#micSaidAt + this.#settings.heartbeatS;
  }

  /** @param {number} now milliseconds since the Unix epoch */
  #at(now) {
    const { wallMs, monotonicS } = this.#settings.clock;
    return Math.round((wallMs + (now - monotonicS) * 1000) * 1000) / 1000;
  }

  /** @param {number} atMs the inverse */
  #moment(atMs) {
    const { wallMs, monotonicS } = this.#settings.clock;
    return monotonicS + (atMs - wallMs) / 1000;
  }

  // --- commands

  /** @param {Uint8Array} payload @param {number} now @returns {Effect[]} */
  #command(payload, now) {
    let command;
    try {
      command = decodeCommand(this.topics.command, payload);
    } catch (error) {
      if (!(error instanceof CommandProblem)) throw error;
      const detail = shortened(error.message);
      return this.#publishResult({ request_id: error.requestId, ok: false, error: "failed", detail });
    }
    const known = this.#answers.get(command.request_id);
    if (known) return this.#repeat(command, known.result, now);
    this.#makeRoom(now);
    /** @type {Refusal | null} */
    let refusal = { error: "failed", detail: "too many commands at once" };
    if (this.#answers.size < MAX_REMEMBERED) {
      this.#answers.set(command.request_id, { expiresAt: command.expires_at, result: null, acted: false });
      refusal = this.#gate(command, now);
    }
    if (refusal) return this.#answer(command, refusal);
    const waiting = this.#next;
    this.#next = command;
    return waiting ? this.#answer(waiting, { error: "failed", detail: "superseded by a newer command" }) : [];
  }

  /** @param {Command} command @param {Result | null} result @param {number} now @returns {Effect[]} */
  #repeat(command, result, now) {
    if (!result) return []; // its answer is still to come
    const again = [];
    if (result.ok && this.mic !== null) {
      const trueStill = command.action !== "set_mute" || command.muted === this.mic;
      again.push(...this.#publishMic(now, trueStill ? command.request_id : null));
    }
    return [...again, ...this.#publishResult(result)];
  }

  /** Why `command` must not be acted on now, null when it may. @param {Command} command @param {number} now */
  #gate(command, now) {
    const aheadMs = command.expires_at - this.#at(now);
    const setsMute = command.action === "set_mute";
    if (aheadMs <= 0) return refusal("expired", `it expired ${Math.abs(aheadMs).toFixed(0)} ms ago`);
    if (aheadMs > MAX_EXPIRY_AHEAD_S * 1000) {
      return refusal("failed", `expires_at lies more than ${MAX_EXPIRY_AHEAD_S} s ahead`);
    }
    if (!this.#settings.can.includes(command.action)) {
      return refusal("failed", `this softphone cannot do ${command.action} by command`);
    }
    if (setsMute && command.muted === null) return refusal("failed", "set_mute without 'muted'");
    if (command.epoch !== null && command.epoch !== this.epoch) {
      return refusal("stale", "it was meant for an earlier start of this controller");
    }
    if (command.call_id !== null && command.call_id !== this.#call.callId) {
      return refusal("stale", "it was meant for another call");
    }
    return setsMute ? this.#gateSetMute(command) : this.#gateHook(command);
  }

  /** @param {Command} command */
  #gateSetMute(command) {
    if (this.#call.state !== "connected") {
      return refusal(
        "not_connected", `the call is ${this.#call.state}; a microphone can be muted only in a connected call`,
      );
    }
    if (command.muted) return null; // never too old to mute
    if (command.call_id === null || command.epoch === null) {
      return refusal("stale", "an unmute says which call_id and epoch it means");
    }
    if ((command.mic_seq ?? 0) < this.#handSeq) { // none: no mic state was seen
      return refusal("stale", "the microphone was changed by hand in the meantime");
    }
    return null;
  }

  /** @param {Command} command */
  #gateHook(command) {
    if (command.call_id === null) return refusal("stale", `${command.action} says which call_id it means`);
    const answers = command.action === "answer";
    if (!(answers ? ["ringing"] : LIVE).includes(this.#call.state)) {
      const nothing = `so there is nothing to ${answers ? "answer" : "hang up"}`;
      return refusal("not_connected", `the call is ${this.#call.state}, ${nothing}`);
    }
    return null;
  }

  /** @param {Command} command @param {number} now @returns {Effect[]} */
  #succeed(command, now) {
    this.#inFlight = null;
    const mic = this.mic === null ? [] : this.#publishMic(now, command.request_id);
    return [...mic, ...this.#settle(command, { request_id: command.request_id, ok: true })];
  }

  /** The command in flight got no answer from the softphone. @param {Refusal} refusal @returns {Effect[]} */
  #giveUp(refusal) {
    const flight = /** @type {InFlight} */ (this.#inFlight);
    /** @type {Effect[]} */
    const effects = [];
    if (this.mic && this.#unmuting()) {
      this.mic = null; // it may be live by now
      if (this.#handSeq <= (flight.command.mic_seq ?? 0)) {
        this.#handSeq = 0; // the bridge has seen that hand, and has nothing left to say it with
      }
      effects.push(...this.#say(this.topics.mic, null));
    }
    this.#inFlight = null;
    return [...effects, ...this.#answer(flight.command, refusal)];
  }

  /** @param {Command} command @param {Refusal} refusal @returns {Effect[]} */
  #answer(command, { error, detail }) {
    const { request_id } = command;
    return this.#settle(command, { request_id, ok: false, error, detail: shortened(detail) || undefined });
  }

  /** @param {Command} command @param {Result} result @returns {Effect[]} */
  #settle(command, result) {
    const known = this.#answers.get(result.request_id);
    if (known) known.result = result;
    return [...this.#publishResult(result), { kind: "settled", command, result }];
  }

  /** @param {Result} result */
  #publishResult(result) {
    return this.#say(this.topics.result, result, false);
  }

  /** Forget the oldest answer that may be forgotten: it never acted, or is past its expiry. @param {number} now */
  #makeRoom(now) {
    if (this.#answers.size < MAX_REMEMBERED) return;
    const at = this.#at(now);
    for (const [requestId, known] of this.#answers) {
      if (known.result && (!known.acted || known.expiresAt <= at)) {
        this.#answers.delete(requestId);
        return;
      }
    }
  }
}

/** @param {CommandError} error @param {string} detail @returns {Refusal} */
const refusal = (error, detail) => ({ error, detail });

/** @param {string} text */
const shortened = (text) => Array.from(text).slice(0, MAX_DETAIL).join("");
