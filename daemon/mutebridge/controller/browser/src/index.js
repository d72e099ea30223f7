/** What `mutebridge-controller.js` exports; `mutebridge-controller.d.ts` describes it. */
export { forgetPairing, readPairing, takePairing } from "./pairing.js";
export { Refused } from "./refused.js";
export { SessionController } from "./session_controller.js";
