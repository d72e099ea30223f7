/** Starts a session controller for the softphone of an SDK. */

import { SessionController } from "../mutebridge-controller.js";

/** @type {typeof import("./connect.js").connect} */
export function connect({ pairing, ...options }, setMute, follow) {
  if (!pairing) throw new TypeError("pairing: none; open this page once by the link that `mutebridge pair` prints");
  const controller = new SessionController({ ...pairing, ...options, setMute });
  const unfollow = follow(controller);
  const stop = controller.stop.bind(controller);
  controller.stop = () => {
    unfollow();
    return stop();
  };
  controller.start();
  return controller;
}
