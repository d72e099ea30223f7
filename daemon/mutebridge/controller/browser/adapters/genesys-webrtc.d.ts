import type { GenesysCloudWebrtcSdk } from "genesys-cloud-webrtc-sdk";
import type { SessionController } from "../mutebridge-controller.js";
import type { ConnectOptions, Followed } from "./connect.js";
import type { Scopes } from "./scopes.js";

export interface WebrtcOptions extends ConnectOptions {
  /** The scopes of the access token, where known; else a missing one is known by what Genesys Cloud answers. */
  scopes?: Scopes;
}

export const MUTE_SCOPES: readonly string[];

/** Connect the SDK to the mute buttons of its station, before or after `initialize`. */
export function connectGenesysWebrtc(sdk: GenesysCloudWebrtcSdk, options: WebrtcOptions): SessionController;

/** The SDK's conversations, told to a controller. */
export class Conversations {
  constructor(sdk: GenesysCloudWebrtcSdk, scopes?: Scopes);

  /** Tell `controller` until the returned function is called. */
  follow(controller: Followed): () => void;

  /** Mute or unmute a conversation, by default the one that uses the microphone; `Refused` says why it cannot be. */
  setMute(muted: boolean, callId?: string | null): Promise<void>;
}
