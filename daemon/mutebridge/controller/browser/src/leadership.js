/**
 * Which of several tabs of one softphone speaks for it: the one that holds a Web Lock.
 *
 * The browser hands the lock on when its holder is closed, reloaded or dies. Where there are no Web Locks (a page that
 * is neither HTTPS nor on loopback, a sandboxed frame), every tab leads.
 */
export class Leadership {
  #name;
  #onWon;
  /** @type {(() => void) | null} */
  #giveUp = null;

  /** @param {string} name of what is led @param {() => void} onWon */
  constructor(name, onWon) {
    this.#name = name;
    this.#onWon = onWon;
  }

  /** Lead now, or as soon as no other tab does. */
  seek() {
    if (!navigator.locks) {
      this.#onWon();
      return;
    }
    const stop = new AbortController();
    this.#giveUp = () => stop.abort();
    const won = () => {
      if (stop.signal.aborted) return undefined;
      return new Promise((/** @type {(value?: undefined) => void} */ release) => {
        this.#giveUp = () => release();
        this.#onWon();
      });
    };
    navigator.locks.request(this.#name, { signal: stop.signal }, won).catch((error) => {
      if (error.name === "SecurityError") this.#onWon(); // a frame that may keep nothing shares nothing either
      else if (error.name !== "AbortError") throw error;
    });
  }

  /** Let another tab lead. */
  leave() {
    this.#giveUp?.();
    this.#giveUp = null;
  }
}
