/**
 * Makes genesys-cloud-webrtc-sdk (9.2) a session controller of the mute buttons.
 *
 *     import { takePairing } from "./mutebridge-controller.js";
 *     import { connectGenesysWebrtc } from "./adapters/genesys-webrtc.js";
 *
 *     const controller = connectGenesysWebrtc(sdk, { pairing: takePairing() }); // before or after sdk.initialize()
 *
 * A conversation's state and microphone are what its newest `conversationUpdate` says, in Genesys Cloud's words;
 * sessions tell only who rings. Muting asks for `setAudioMute` of one conversation, and only while its call is
 * `connected` and not held: the SDK's own `isConnectedState` counts dialing too, which is not enough here.
 *
 * While the SDK's streaming connection is down, nobody hears of a change: what the microphone does is unknown then, and
 * known again when the SDK is connected and Genesys Cloud confirms what the SDK knew.
 */

import { Refused } from "../mutebridge-controller.js";
import { connect } from "./connect.js";
import { missingScopes } from "./scopes.js";

/** What `setAudioMute` needs: it changes a participant of a conversation. */
export const MUTE_SCOPES = ["conversations"];

/** @typedef {import("genesys-cloud-webrtc-sdk").GenesysCloudWebrtcSdk} Sdk */
/** @typedef {import("genesys-cloud-webrtc-sdk").IStoredConversationState} Conversation */
/** @typedef {import("genesys-cloud-webrtc-sdk").IExtendedMediaSession} Session */
/** @typedef {import("genesys-cloud-webrtc-sdk").SoftphoneSessionHandler} SoftphoneSessionHandler */
/** @typedef {import("./connect.js").Followed} Followed */
/** @typedef {{state: string, muted: boolean | null}} Call */

/** A mute travels to Genesys Cloud, and the notification back; a press expires after two seconds. */
const CONFIRM_TIMEOUT_S = 1.8;
/** Characters of what Genesys Cloud says that a person gets to read. */
const MAX_TEXT = 500;
const PENDING = ["alerting", "contacting"];
/** @type {Record<string, string>} */
const WORDS = {
  alerting: "ringing",
  contacting: "dialing",
  dialing: "dialing",
  connected: "connected",
  hold: "held",
  disconnected: "disconnected",
  terminated: "disconnected",
};

/** @type {typeof import("./genesys-webrtc.js").connectGenesysWebrtc} */
export function connectGenesysWebrtc(sdk, { scopes, ...options }) {
  const conversations = new Conversations(sdk, scopes);
  return connect(
    { confirmTimeoutS: CONFIRM_TIMEOUT_S, ...options },
    (muted, callId) => conversations.setMute(muted, callId),
    (controller) => conversations.follow(controller),
  );
}

/** The SDK's conversations, told to a controller. */
export class Conversations {
  #sdk;
  #scopes;
  /** @type {Followed | null} */
  #controller = null;
  /** What the newest event says of all of them. @type {Conversation[]} */
  #current = [];
  /** Those that ring, by conversation. @type {Set<string>} */
  #pending = new Set();
  /** Those that were taken here, by conversation. @type {Set<string>} */
  #started = new Set();
  /** What was known when the streaming connection broke. @type {WeakSet<Conversation["conversationUpdate"]>} */
  #unsure = new WeakSet();
  /** What was told, the latest change of state last. @type {Map<string, Call>} */
  #told = new Map();
  /** Whose microphone was told, and what. @type {{id: string, muted: boolean} | null} */
  #toldMic = null;

  /**
   * @param {Sdk} sdk
   * @param {import("./scopes.js").Scopes} [scopes]
   */
  constructor(sdk, scopes) {
    this.#sdk = sdk;
    this.#scopes = scopes;
  }

  /**
   * Tell `controller` until the returned function is called.
   *
   * @param {Followed} controller
   */
  follow(controller) {
    this.#controller = controller;
    const listeners = this.#listeners();
    for (const [event, listener] of listeners) this.#sdk.on(event, listener);
    this.#current = this.#softphone()?.lastEmittedSdkConversationEvent.current ?? [];
    for (const pending of this.#sdk.sessionManager?.pendingSessions ?? []) this.#onPending(pending);
    this.#tell();
    return () => {
      this.#controller = null;
      for (const [event, listener] of listeners) this.#sdk.off(event, listener);
    };
  }

  /**
   * Mute or unmute the call; Refused when it cannot be.
   *
   * @param {boolean} muted
   * @param {string | null} [callId] a conversation; without it, the one that uses the microphone
   */
  async setMute(muted, callId) {
    const id = callId || this.#microphoneOf();
    this.#requireConnected(id);
    try {
      await this.#sdk.setAudioMute({ conversationId: /** @type {string} */ (id), mute: muted });
    } catch (error) {
      this.#requireConnected(id); // the call may have ended between the look and the answer
      throw (await this.#whyNot(error)) ?? error;
    }
    // Genesys Cloud did it, and the SDK knew so already: it will say nothing more.
    const conversation = this.#newest(id);
    if (conversation?.mostRecentCallState?.muted === muted) this.#sure(conversation);
  }

  #listeners() {
    return /** @type {[any, (...said: any[]) => void][]} */ ([
      ["conversationUpdate", this.#onUpdate],
      ["pendingSession", this.#onPending],
      ["cancelPendingSession", this.#onCancelled],
      ["handledPendingSession", this.#onHandled],
      ["sessionStarted", this.#onStarted],
      ["sessionEnded", this.#onEnded],
      ["disconnected", this.#onDisconnected],
      ["connected", this.#onConnected],
    ]);
  }

  // --- what the SDK says

  /** @param {import("genesys-cloud-webrtc-sdk").ISdkConversationUpdateEvent} event */
  #onUpdate = (event) => {
    this.#current = event.current;
    this.#tell();
  };

  /** @param {import("genesys-cloud-webrtc-sdk").IPendingSession} pending */
  #onPending = ({ conversationId, sessionType, privAnswerMode }) => {
    if (sessionType !== "softphone" || privAnswerMode === "Auto") return; // a line being set up, not a call
    this.#pending.add(conversationId);
    this.#tell();
  };

  /** @param {import("genesys-cloud-webrtc-sdk").ISessionIdAndConversationId} cancelled */
  #onCancelled = ({ conversationId = "" }) => {
    this.#pending.delete(conversationId);
    this.#tell();
  };

  /**
   * Taken or rejected; here, or by another client of the same person.
   *
   * @param {import("genesys-cloud-webrtc-sdk").ISessionIdAndConversationId} handled
   */
  #onHandled = (handled) => {
    if (!this.#started.has(handled.conversationId ?? "")) this.#onCancelled(handled);
  };

  /** @param {Session} session */
  #onStarted = ({ conversationId }) => {
    this.#started.add(conversationId);
  };

  /**
   * The media ended. A conversation that the SDK still has is not over by that: a session can be replaced.
   *
   * @param {Session} session
   */
  #onEnded = ({ conversationId }) => {
    this.#started.delete(conversationId);
    this.#pending.delete(conversationId);
    this.#tell();
  };

  #onDisconnected = () => {
    for (const { conversationUpdate } of this.#current) if (conversationUpdate) this.#unsure.add(conversationUpdate);
    this.#tell();
  };

  #onConnected = () => {
    for (const { conversationId, conversationUpdate } of this.#current) {
      if (this.#unsure.has(conversationUpdate)) void this.#confirm(conversationId);
    }
  };

  /**
   * Ask Genesys Cloud whether what the SDK knows of a conversation is still so.
   *
   * @param {string} id
   */
  async #confirm(id) {
    const before = this.#newest(id);
    try {
      const softphone = this.#softphone();
      const update = await softphone?.fetchConversationStateFromApi(id);
      const now = update && softphone?.getUsersCallStateFromConversationEvent(update);
      const known = before?.mostRecentCallState;
      if (!before || !known || !now) return;
      if (now.muted === known.muted && now.held === known.held && now.state === known.state) this.#sure(before);
    } catch (error) {
      console.warn("mutebridge: what the microphone does is not known before the next change", error);
    }
  }

  /** @param {Conversation} conversation */
  #sure({ conversationUpdate }) {
    this.#unsure.delete(conversationUpdate);
    this.#tell();
  }

  // --- what is told

  #tell() {
    const controller = this.#controller;
    if (!controller) return;
    const calls = this.#calls();
    for (const id of this.#told.keys()) if (!calls.has(id)) calls.set(id, { state: "disconnected", muted: null });
    for (const [id, call] of calls) this.#tellCall(controller, id, call);
    const id = this.#microphoneOf();
    if (this.#toldMic?.id !== id) this.#toldMic = null; // the controller forgets it with the call
    const muted = id === undefined ? null : (this.#told.get(id)?.muted ?? null);
    if (id === undefined || muted === (this.#toldMic?.muted ?? null)) return;
    this.#toldMic = muted === null ? null : { id, muted };
    controller.micChanged(muted);
  }

  /**
   * @param {Followed} controller
   * @param {string} id
   * @param {Call} call
   */
  #tellCall(controller, id, { state, muted }) {
    const changed = this.#told.get(id)?.state !== state;
    if (changed) this.#told.delete(id); // the latest change stands last
    if (state !== "disconnected") this.#told.set(id, { state, muted });
    else if (this.#toldMic?.id === id) this.#toldMic = null;
    if (changed) controller.callChanged(state, id);
  }

  /** @returns {Map<string, Call>} */
  #calls() {
    const calls = new Map();
    for (const { conversationId: id } of this.#current) {
      const { conversationUpdate, mostRecentCallState } = this.#newest(id) ?? {};
      if (!id || !mostRecentCallState) continue; // a session that no update has been about yet
      // Who rings is known from the pending sessions: the SDK drops one that another client took without an update.
      if (PENDING.includes(mostRecentCallState.state)) continue;
      this.#pending.delete(id);
      const state = stateOf(mostRecentCallState);
      const sure = conversationUpdate && !this.#unsure.has(conversationUpdate);
      const known = sure && typeof mostRecentCallState.muted === "boolean";
      if (state !== "disconnected") calls.set(id, { state, muted: known ? mostRecentCallState.muted : null });
    }
    for (const id of this.#pending) if (!calls.has(id)) calls.set(id, { state: "ringing", muted: null });
    return calls;
  }

  /**
   * The call whose microphone the controller takes for said: the latest connected, else the one it was, now held.
   *
   * @returns {string | undefined}
   */
  #microphoneOf() {
    const connected = [...this.#told].filter(([, { state }]) => state === "connected").pop();
    return connected?.[0] ?? this.#toldMic?.id;
  }

  // --- what is asked

  /** @param {string | undefined | null} id */
  #requireConnected(id) {
    const conversation = this.#newest(id);
    const call = conversation?.mostRecentCallState;
    const state = call ? stateOf(call) : "disconnected";
    if (state !== "connected") {
      throw new Refused("not_connected", `the call is ${state}; a microphone can be muted only in a connected call`);
    }
    if (isOver(conversation?.session)) throw new Refused("not_connected", "the call's media session has ended");
  }

  /** @param {unknown} error */
  async #whyNot(error) {
    const answer = httpAnswer(error);
    if (!answer) return null;
    const { status, code, message } = answer;
    const said = `Genesys Cloud answered ${status}${code ? ` (${code})` : ""}${message ? `: ${message}` : ""}`;
    if (status === 401) return new Refused("not_allowed", `${said}; the access token is no longer valid`);
    if (status !== 403) return new Refused("failed", said);
    const missing = await missingScopes(this.#scopes, MUTE_SCOPES);
    if (missing?.length) {
      return new Refused("missing_scope", `${said}; the access token lacks ${missing.join(" and ")}`);
    }
    // It names a permission that the person's role lacks, or says that the token's scope does not reach.
    if (!/permission|scope/i.test(said)) return new Refused("not_allowed", said);
    const needs = missing ? "" : `; the access token needs the scope ${MUTE_SCOPES.join(" and ")}`;
    return new Refused("missing_scope", said + needs);
  }

  // --- what the SDK has

  /**
   * The newest that the SDK has of a conversation, which it keeps without an event when nothing changed.
   *
   * @param {string | undefined | null} id
   */
  #newest(id) {
    if (!id || !this.#current.some((each) => each.conversationId === id)) return undefined;
    return this.#softphone()?.conversations[id] ?? this.#current.find((each) => each.conversationId === id);
  }

  /** Null before `initialize`. */
  #softphone() {
    const handlers = /** @type {SoftphoneSessionHandler[] | undefined} */ (this.#sdk.sessionManager?.sessionHandlers);
    return handlers?.find(({ sessionType }) => sessionType === "softphone");
  }
}

/** @param {NonNullable<Conversation["mostRecentCallState"]>} call */
function stateOf({ state, held }) {
  return state === "connected" && held ? "held" : (WORDS[state] ?? "other");
}

/** @param {Session | undefined} session */
function isOver(session) {
  if (!session || session.sessionReplacedByReinvite) return false;
  return session.state === "ended" || session.peerConnection?.connectionState === "closed";
}

/**
 * The HTTP answer inside an SdkError.
 *
 * @param {any} error
 * @returns {{status: number, code: string, message: string} | null}
 */
function httpAnswer(error) {
  const response = error?.details?.error?.response ?? error?.response;
  if (typeof response?.status !== "number") return null;
  const text = (/** @type {unknown} */ value) => (typeof value === "string" ? value.slice(0, MAX_TEXT) : "");
  return { status: response.status, code: text(response.data?.code), message: text(response.data?.message) };
}
