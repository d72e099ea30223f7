// Holds `mutebridge-controller.d.ts` to what the code is: `npm run check` compiles it, nobody runs it.
import * as declared from "./mutebridge-controller.js";
import * as real from "./src/index.js";

// Each is assignable to the other.
export const asDeclared: Omit<typeof declared, "SessionController"> = real;
export const controller: (options: declared.SessionControllerOptions) => Pick<
  declared.SessionController,
  "start" | "stop" | "callChanged" | "micChanged" | "status"
> = (options) => new real.SessionController(options);
export const pairing: ReturnType<typeof real.readPairing> = declared.readPairing("");
export const refusals: declared.RefusalError[] = [] as real.Refused["error"][];
