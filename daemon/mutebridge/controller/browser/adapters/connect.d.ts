import type { SessionController } from "../mutebridge-controller.js";

/** What an adapter may say. */
export type Followed = Pick<SessionController, "callChanged" | "micChanged">;

export interface ConnectOptions {
  /** What `takePairing` or `readPairing` returns. */
  pairing: Pairing | null;
  /** Instead of the pairing's. */
  name?: string;
  heartbeatS?: number;
  confirmTimeoutS?: number;
  lead?: boolean;
  allowPlaintext?: boolean;
}

type Options = ConstructorParameters<typeof SessionController>[0];
type Pairing = Omit<Options, "setMute" | "answer" | "hangUp">;

/** `follow` tells the controller of the SDK until the function that it returns is called; `stop` calls it. */
export function connect(
  options: ConnectOptions,
  setMute: Options["setMute"],
  follow: (controller: Followed) => () => void,
): SessionController;
