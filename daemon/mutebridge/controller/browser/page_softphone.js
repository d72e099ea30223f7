/**
 * The page's softphone: one line without audio, as awkward as the SDK of a real one.
 *
 * Like `mutebridge.controller.softphone`, it refuses with the same bare "Operation Not Allowed" whether no call is
 * connected, a permission is missing or somebody else owns the call; telling them apart is `serve`'s work. Its state is
 * kept for all tabs of this origin and over reloads, as a telephone system keeps a call; where the browser keeps
 * nothing, each tab has its own.
 *
 * Whatever the page plays has these: `title`, `state`, `mic`, `can()`, `act(verb)`, `faults`, `fault(key, on)`,
 * `serve(pairing)` and the event "change".
 */
import { Refused, SessionController } from "./mutebridge-controller.js";

const STORED = "mutebridge.softphone";
const SCOPE = "client:call:write";
const NEXT_STATE = {
  disconnected: { ring: "ringing", dial: "dialing" },
  ringing: { connect: "connected", end: "disconnected" },
  dialing: { connect: "connected", end: "disconnected" },
  connected: { hold: "held", end: "disconnected" },
  held: { resume: "connected", end: "disconnected" },
};
const AT_REST = { state: "disconnected", callId: "", muted: false, faults: {} };

class SimulatedSoftphone extends EventTarget {
  title = "Simulated softphone";
  faults = [
    { key: "missing_scope", label: `the login lacks ${SCOPE}` },
    { key: "not_owner", label: "somebody else owns the call" },
    { key: "deaf", label: "it accepts, and does nothing" },
  ];
  #kept = { ...AT_REST, ...JSON.parse(keptText() ?? "{}") };

  constructor() {
    super();
    addEventListener("storage", ({ key, newValue }) => {
      if (key === STORED) this.#become(JSON.parse(newValue ?? "{}")); // another tab's doing
    });
  }

  // --- the SDK

  get state() {
    return this.#kept.state;
  }

  get callId() {
    return this.#kept.callId;
  }

  /** true when muted, null without a connected call */
  get mic() {
    return this.state === "connected" ? this.#kept.muted : null;
  }

  async muteMic(muted) {
    const { missing_scope, not_owner, deaf } = this.#kept.faults;
    if (this.state !== "connected" || missing_scope || not_owner) throw new Error("Operation Not Allowed");
    if (!deaf) this.#keep({ muted });
  }

  // --- the person

  /** What the person can do now. */
  can() {
    const hand = this.mic === null ? [] : [this.mic ? "unmute" : "mute"];
    return [...Object.keys(NEXT_STATE[this.state]), ...hand];
  }

  act(verb) {
    if (!this.can().includes(verb)) throw new Error(`cannot ${verb} while ${this.state}`);
    if (verb === "mute" || verb === "unmute") {
      this.#keep({ muted: verb === "mute" });
      return;
    }
    const starts = this.state === "disconnected" ? { callId: crypto.randomUUID() } : {};
    const connects = verb === "connect" ? { muted: false } : {};
    this.#keep({ ...starts, ...connects, state: NEXT_STATE[this.state][verb] });
  }

  /** Break it, or mend it: `key` is of `faults`; without `on`, whether it is broken so. */
  fault(key, on) {
    if (on !== undefined) this.#keep({ faults: { ...this.#kept.faults, [key]: on } });
    return Boolean(this.#kept.faults[key]);
  }

  // --- the session controller: what a softphone developer writes

  serve(pairing) {
    const controller = new SessionController({
      ...pairing,
      setMute: (muted) => this.#mute(muted),
      answer: () => this.act("connect"),
      hangUp: () => this.act("end"),
    });
    this.addEventListener("state", () => controller.callChanged(this.state, this.callId));
    this.addEventListener("mic", () => controller.micChanged(this.mic));
    if (this.callId) controller.callChanged(this.state, this.callId);
    if (this.mic !== null) controller.micChanged(this.mic);
    return controller;
  }

  async #mute(muted) {
    this.#requireConnected();
    try {
      await this.muteMic(muted);
    } catch {
      this.#requireConnected(); // it may have ended meanwhile
      if (this.fault("missing_scope")) throw new Refused("missing_scope", SCOPE);
      throw new Refused("not_allowed", "the softphone says Operation Not Allowed: most likely somebody else's call");
    }
  }

  #requireConnected() {
    if (this.state !== "connected") throw new Refused("not_connected", `the softphone's call is ${this.state}`);
  }

  // --- what is kept

  #keep(change) {
    const kept = { ...this.#kept, ...change };
    keepText(JSON.stringify(kept));
    this.#become(kept);
  }

  #become(kept) {
    const before = this.#kept;
    this.#kept = { ...AT_REST, ...kept };
    const changed = (key) => this.#kept[key] !== before[key];
    if (changed("state") || changed("callId")) this.dispatchEvent(new Event("state"));
    if (this.mic !== null && (changed("muted") || before.state !== "connected")) this.dispatchEvent(new Event("mic"));
    this.dispatchEvent(new Event("change"));
  }
}

function keptText() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null; // the person lets no page keep anything
  }
}

function keepText(text) {
  try {
    localStorage.setItem(STORED, text);
  } catch {
    // It was only for other tabs.
  }
}

export const makeSoftphone = () => new SimulatedSoftphone();
