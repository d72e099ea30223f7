/**
 * Makes the Genesys Cloud Embeddable Client SDK (1.2.40) a session controller of the mute buttons.
 *
 *     import { takePairing } from "./mutebridge-controller.js";
 *     import { connectGenesysEmbeddable } from "./adapters/genesys-embeddable.js";
 *
 *     const controller = connectGenesysEmbeddable(client, { pairing: takePairing(), scopes: () => accessToken });
 *
 * The SDK stays the owner of the microphone. `onMicStateChange` is all that the lights believe, `muteMic` is called
 * only while `getState()` says `connected` (a voice session is there while it only rings, so it proves nothing), and
 * "Operation Not Allowed" comes back as what it was: no longer connected, a missing scope, or refused.
 */

import { Refused } from "../mutebridge-controller.js";
import { connect } from "./connect.js";
import { missingScopes } from "./scopes.js";

/** What muting needs; `interaction:write` alone is not enough. */
export const MUTE_SCOPES = ["client:call:write", "interaction:write"];

/** @typedef {import("./genesys-embeddable.js").EmbeddableClient} Client */
/** @typedef {import("./genesys-embeddable.js").Listener} Listener */

/** @type {typeof import("./genesys-embeddable.js").connectGenesysEmbeddable} */
export function connectGenesysEmbeddable(client, { scopes, ...options }) {
  return connect(
    options,
    (muted) => setMute(client, muted, scopes),
    (controller) => follow(client, controller),
  );
}

/** @type {typeof import("./genesys-embeddable.js").setMute} */
export async function setMute(client, muted, scopes) {
  requireConnected(client);
  try {
    await microphone(client).muteMic(muted);
  } catch (error) {
    if (!isNotAllowed(error)) throw error;
    requireConnected(client); // the call may have ended between the look and the call
    throw await whyNotAllowed(scopes);
  }
}

/** @type {typeof import("./genesys-embeddable.js").follow} */
export function follow(client, controller) {
  let call = "disconnected";
  let following = true;

  /** @param {string} state */
  const callIs = (state) => {
    if (state === call) return;
    const another = ["connected", "held"].includes(call) && ["ringing", "dialing"].includes(state);
    if (another) controller.callChanged("disconnected"); // nothing that was said of the old call holds for this one
    call = state;
    controller.callChanged(state);
  };
  /** @type {Listener} */
  const onState = (said) => {
    if (following) callIs(typeof said === "string" ? said : client.getState());
  };
  /** @type {Listener} */
  const onMic = (said) => {
    if (!following) return;
    const muted = readMic(said);
    if (call === "disconnected") callIs(client.getState());
    if (call === "disconnected") return; // said between two calls, it is about neither
    if (muted === null) console.warn("mutebridge: onMicStateChange said what cannot be read: unknown", said);
    controller.micChanged(muted);
  };

  client.on("stateChange", onState);
  listenToMic(client, onMic);
  callIs(client.getState());
  return () => {
    following = false;
    client.off?.("stateChange", onState);
    client.off?.("onMicStateChange", onMic);
  };
}

/** @param {Client} client */
function requireConnected(client) {
  const state = client.getState();
  if (state === "connected") return;
  throw new Refused("not_connected", `the softphone is ${state}; the SDK can mute only while it is connected`);
}

/**
 * @param {Client} client
 * @returns {{muteMic(muted: boolean): unknown}}
 */
function microphone(client) {
  if (client.muteMic) return { muteMic: client.muteMic.bind(client) };
  const session = client.sessions?.getSessionByType("voice");
  if (!session) throw new Refused("not_connected", "the softphone has no voice session");
  return session;
}

/** @param {unknown} error */
function isNotAllowed(error) {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  return /operation\s*not\s*allowed/i.test(`${name} ${message}`);
}

/** @param {import("./scopes.js").Scopes} [scopes] */
async function whyNotAllowed(scopes) {
  const missing = await missingScopes(scopes, MUTE_SCOPES);
  if (missing?.length) {
    const lacks = `the access token lacks ${missing.join(" and ")}`;
    return new Refused("missing_scope", `${lacks}; add it to the OAuth client, then sign in anew`);
  }
  const token = missing
    ? `the access token has ${MUTE_SCOPES.join(" and ")}`
    : `whether the access token lacks ${MUTE_SCOPES[0]} is not known here`;
  return new Refused("not_allowed", `Operation Not Allowed in a connected call: another owner may have it; ${token}`);
}

/**
 * The documents name `onMicStateChange` without saying whether it is a method or an event.
 *
 * @param {Client} client
 * @param {Listener} onMic
 */
function listenToMic(client, onMic) {
  if (client.onMicStateChange) client.onMicStateChange(onMic);
  else client.on("onMicStateChange", onMic);
}

/**
 * @param {unknown} said
 * @returns {boolean | null} null when it cannot be read
 */
function readMic(said) {
  if (said && typeof said === "object" && "muted" in said) return readMic(said.muted);
  if (typeof said === "boolean") return said;
  if (said === "muted") return true;
  return said === "unmuted" ? false : null;
}
