/**
 * Stands in for the client of the Genesys Cloud Embeddable Client SDK (1.2.40) in tests and on the page for trying.
 *
 * It does what is documented, as awkwardly: `muteMic` throws the same bare "Operation Not Allowed" whether no call is
 * connected, a scope is missing or somebody else owns the call; a session exists while it only rings; there is no
 * `setMicState`. What a person does on the softphone's own page (`do`, `hand`) is not part of the SDK.
 */

/** @type {Record<string, Record<string, string>>} */
const NEXT = {
  disconnected: { ring: "ringing", dial: "dialing" },
  ringing: { connect: "connected", end: "disconnected" },
  dialing: { connect: "connected", end: "disconnected" },
  connected: { hold: "held", end: "disconnected" },
  held: { resume: "connected", end: "disconnected" },
};

export class EmbeddableStandIn {
  /** Those of the access token. */
  scopes = new Set(["client:call:write", "interaction:write"]);
  /** Another application has the call. */
  ownedByOther = false;
  /** What `muteMic` was asked, for tests. @type {{state: string, muted: boolean}[]} */
  asked = [];
  sessions = {
    /** @param {string} type */
    getSessionByType: (type) => (type === "voice" ? this.#session : null),
  };
  #state = "disconnected";
  #muted = false;
  /** @type {{muteMic(muted: boolean): Promise<void>} | null} */
  #session = null;
  /** @type {Map<string, Set<(said: any) => void>>} */
  #listeners = new Map();

  // --- the SDK

  getState() {
    return this.#state;
  }

  /**
   * @param {string} event
   * @param {(said: any) => void} listener
   */
  on(event, listener) {
    this.#listeners.set(event, (this.#listeners.get(event) ?? new Set()).add(listener));
  }

  /**
   * @param {string} event
   * @param {(said: any) => void} listener
   */
  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
  }

  /** @param {(said: any) => void} listener gets true for muted: when a call connects, then at each change */
  onMicStateChange(listener) {
    this.on("onMicStateChange", listener);
  }

  /** @param {boolean} muted */
  async muteMic(muted) {
    this.asked.push({ state: this.#state, muted });
    const allowed = this.#state === "connected" && this.scopes.has("client:call:write") && !this.ownedByOther;
    if (!allowed) throw new Error("Operation Not Allowed");
    this.#setMic(muted);
  }

  // --- the person

  /** @param {string} verb `ring`, `dial`, `connect`, `hold`, `resume` or `end`; Error when the call cannot */
  do(verb) {
    const state = NEXT[this.#state][verb];
    if (!state) throw new Error(`cannot ${verb} while ${this.#state}; now it can: ${this.can().join(", ")}`);
    this.#state = state;
    if (state === "disconnected") this.#session = null;
    else this.#session ??= { muteMic: (muted) => this.muteMic(muted) };
    if (verb === "connect") this.#muted = false;
    this.#emit("stateChange", state);
    if (verb === "connect") this.#emit("onMicStateChange", false);
  }

  /** @param {boolean} muted on the softphone's own page, which needs no scope */
  hand(muted) {
    if (this.#state !== "connected") throw new Error(`cannot change the microphone while ${this.#state}`);
    this.#setMic(muted);
  }

  /** What the microphone does, null outside a connected call. */
  get muted() {
    return this.#state === "connected" ? this.#muted : null;
  }

  /** What `do` can do now. */
  can() {
    return Object.keys(NEXT[this.#state]);
  }

  /** What a client might say of itself. @param {unknown} said */
  tellMic(said) {
    this.#emit("onMicStateChange", said);
  }

  /** @param {string} state */
  tellState(state) {
    this.#emit("stateChange", state);
  }

  /** @param {boolean} muted */
  #setMic(muted) {
    if (muted === this.#muted) return;
    this.#muted = muted;
    this.#emit("onMicStateChange", muted);
  }

  /**
   * @param {string} event
   * @param {unknown} said
   */
  #emit(event, said) {
    for (const listener of this.#listeners.get(event) ?? []) listener(said);
  }
}
