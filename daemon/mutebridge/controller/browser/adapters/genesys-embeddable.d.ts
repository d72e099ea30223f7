import type { SessionController } from "../mutebridge-controller.js";
import type { ConnectOptions, Followed } from "./connect.js";
import type { Scopes } from "./scopes.js";

export type Listener = (said: unknown) => void;

/** What is used of the SDK's client. */
export interface EmbeddableClient {
  getState(): string;
  on(event: string, listener: Listener): unknown;
  off?(event: string, listener: Listener): unknown;
  muteMic?(muted: boolean): unknown;
  sessions?: { getSessionByType(type: string): { muteMic(muted: boolean): unknown } | null | undefined };
  onMicStateChange?(listener: Listener): unknown;
}

export interface EmbeddableOptions extends ConnectOptions {
  /** The scopes of the access token; without them a missing one cannot be told from any other refusal. */
  scopes?: Scopes;
}

export const MUTE_SCOPES: readonly string[];

/** Connect the client to the mute buttons of its station, before or after it has a call. */
export function connectGenesysEmbeddable(client: EmbeddableClient, options: EmbeddableOptions): SessionController;

/** Mute or unmute; `Refused` says why the client cannot. */
export function setMute(client: EmbeddableClient, muted: boolean, scopes?: Scopes): Promise<void>;

/** Tell a controller what the client does until the returned function is called. */
export function follow(client: EmbeddableClient, controller: Followed): () => void;
