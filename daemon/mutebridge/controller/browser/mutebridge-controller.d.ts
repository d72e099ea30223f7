/**
 * Makes a web softphone a session controller of mutebridge: a mute button on the desk mutes it, and the button's light
 * shows what its microphone does.
 */

/** What a call does. Any other word is taken for a call that is not connected. */
export type CallState = "ringing" | "dialing" | "connected" | "held" | "disconnected";

/**
 * Why a command is refused. A softphone says `not_connected`, `not_allowed` (refused although connected),
 * `missing_scope` (a permission of the login; name it in the detail) or `failed`.
 */
export type RefusalError = "not_connected" | "not_allowed" | "missing_scope" | "expired" | "stale" | "failed";

/** Throw it in a callback to refuse a command. The person at the button reads the detail: what to do about it. */
export class Refused extends Error {
  constructor(error: RefusalError, detail?: string);
  readonly error: RefusalError;
  readonly detail: string;
}

/** Where the broker is, for whom, with which credential. `mutebridge pair` issues it. */
export interface Pairing {
  /** `ws://127.0.0.1:9001` or `wss://host/path` */
  broker: string;
  station: string;
  /** of the controller */
  name: string;
  username: string;
  password: string;
  prefix: string;
}

export interface SessionControllerOptions {
  /** `ws://127.0.0.1:9001` or `wss://host/path` */
  broker: string;
  /** the one that the bridge is configured for, by default its host name */
  station: string;
  /** of this controller; default `softphone` */
  name?: string;
  username?: string;
  password?: string;
  /** of the topics; default `mutebridge/v1` */
  prefix?: string;
  /** how often the microphone's state is repeated in a call, seconds; default 5 */
  heartbeatS?: number;
  /** how long a softphone may take to say that it did what it was told, seconds; default 1, and a press expires after 2 */
  confirmTimeoutS?: number;
  /** true, the default: of several tabs one leads, the others wait for it to close. false: connect in any case */
  lead?: boolean;
  /** let a page of `http:` use `ws:` to another machine: everyone on the way can read the password; default false */
  allowPlaintext?: boolean;
  /**
   * Mute or unmute. Called only while a call is connected, one call at a time. It need not wait for the effect: within
   * `confirmTimeoutS` `micChanged` must say that the microphone did as it was told, from inside or from anywhere else. Throw
   * `Refused` to refuse; any other exception counts as `failed`. An exception means that the microphone was left as it
   * was.
   */
  setMute: (muted: boolean, callId: string) => unknown;
  /** Answer the ringing call; done when it returns, or its promise is fulfilled. */
  answer?: (callId: string) => unknown;
  /** End the call, or refuse it while it rings; done when it returns, or its promise is fulfilled. */
  hangUp?: (callId: string) => unknown;
}

export interface Status {
  /** to the broker */
  connected: boolean;
  /** this tab speaks for the softphone */
  leading: boolean;
  /** the daemon, as the broker knows it */
  bridge: "online" | "offline" | "unknown";
  /** what is wrong, for people; empty when nothing is */
  problem: string;
}

/** A command, with what became of it. */
export interface CommandDetail {
  request_id: string;
  action: "set_mute" | "answer" | "hang_up";
  muted: boolean | null;
  call_id: string | null;
  epoch: string | null;
  mic_seq: number | null;
  /** milliseconds since the Unix epoch, in this controller's clock */
  expires_at: number;
  source: { device: string; name?: string | null } | null;
  outcome: "ok" | RefusalError;
  /** why it was refused, for people; empty for "ok" */
  reason: string;
}

/** What the bridge says became of a press (its topic `bridge/event`). */
export interface PressDetail {
  press: string;
  device: string;
  gesture: string;
  outcome: "sent" | "confirmed" | "rejected" | "superseded" | "timed_out" | "ignored";
  reason?: string;
  detail?: string;
  controller?: string;
  request_id?: string;
  muted?: boolean;
  latency_ms?: number;
}

export interface SessionControllerEvents {
  status: CustomEvent<Status>;
  command: CustomEvent<CommandDetail>;
  press: CustomEvent<PressDetail>;
}

/**
 * One softphone's microphone at one station. It keeps the controller's side of the contract: retained call and
 * microphone state, will, results, idempotence, expiry, heartbeat, reconnecting.
 */
export class SessionController extends EventTarget {
  /** TypeError or RangeError for options that cannot be. */
  constructor(options: SessionControllerOptions);
  /** Connect, for as long as it takes, as soon as no other tab serves this softphone. */
  start(): void;
  /** Say `offline` and disconnect, within a second or so. `start` starts again. */
  stop(): Promise<void>;
  /** Say what a call does. With several calls, give each an id that is never used again, of 1 to 256 characters. */
  callChanged(state: CallState | (string & {}), callId?: string | null): void;
  /**
   * Say what the microphone does: whenever it changes, and once in every new call; null when it is not known any more.
   * Nothing else is shown.
   */
  micChanged(muted: boolean | null): void;
  readonly status: Readonly<Status>;
  addEventListener<K extends keyof SessionControllerEvents>(
    type: K,
    listener: ((event: SessionControllerEvents[K]) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof SessionControllerEvents>(
    type: K,
    listener: ((event: SessionControllerEvents[K]) => void) | null,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * Read the pairing of a link's fragment (`#mutebridge=…`), of such a fragment, or of the JSON's object. null for a link
 * without one; TypeError or RangeError, with a message for people, for one that cannot be used.
 */
export function readPairing(source: string | URL | Location | object): Pairing | null;

/**
 * The pairing of this page: the one in its address, which is taken out of the address and kept in localStorage (where
 * every script of this origin can read it), else the one kept, else null. TypeError or RangeError, with a message for
 * people, for a link that cannot be used, once: the address is clean after it. From then on, a link that is opened in
 * this tab loads the page anew.
 *
 * Anybody can make a link, and whoever has a softphone's broker can press its button. A link may therefore name a broker
 * on this machine or one of `brokers` (ws:// or wss://, the path does not matter), and no other. "*" allows any, for a
 * page whose Content-Security-Policy says which.
 */
export function takePairing(...brokers: string[]): Pairing | null;

/** Forget what `takePairing` kept. */
export function forgetPairing(): void;
