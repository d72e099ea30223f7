/**
 * Timers that keep time in a hidden tab.
 *
 * A browser slows the timers of a tab that nobody looks at, down to one a minute, while an agent who talks looks at
 * other tabs: heartbeats would stop. A worker's timers are not slowed. It is made from a blob; where the page's
 * Content-Security-Policy forbids that (`worker-src blob:` allows it), the page's own timers have to do.
 */
const WORKER = `
const running = new Map();
onmessage = ({ data: [id, ms] }) => {
  clearTimeout(running.get(id));
  running.delete(id);
  if (ms !== null) running.set(id, setTimeout(() => { running.delete(id); postMessage(id); }, ms));
};`;

export class Timers {
  /** @type {Worker | null} */
  #worker = null;
  #lastId = 0;
  /** @type {Map<number, {callback: () => void, dueMs: number, native: ReturnType<typeof setTimeout> | undefined}>} */
  #pending = new Map();

  constructor() {
    try {
      const url = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
      this.#worker = new Worker(url);
      URL.revokeObjectURL(url);
    } catch {
      return;
    }
    this.#worker.onmessage = ({ data: id }) => this.#came(id);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#doWithout();
    };
  }

  /** @param {() => void} callback @param {number} ms @returns {number} for `clear`, never 0 */
  set(callback, ms) {
    this.#lastId += 1;
    this.#arm(this.#lastId, callback, ms);
    return this.#lastId;
  }

  /** @param {number | null} id */
  clear(id) {
    const timer = id === null ? undefined : this.#pending.get(id);
    if (id === null || !timer) return;
    this.#pending.delete(id);
    clearTimeout(timer.native);
    this.#worker?.postMessage([id, null]);
  }

  /** Again and again, every `ms`. @param {() => void} callback @param {number} ms @returns {number} for `clear` */
  every(callback, ms) {
    const id = this.set(() => {
      this.#arm(id, again, ms);
      callback();
    }, ms);
    const again = /** @type {{callback: () => void}} */ (this.#pending.get(id)).callback;
    return id;
  }

  /** Forget them all, for good. */
  close() {
    for (const id of [...this.#pending.keys()]) this.clear(id);
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** @param {number} id @param {() => void} callback @param {number} ms */
  #arm(id, callback, ms) {
    const native = this.#worker ? undefined : setTimeout(() => this.#came(id), ms);
    this.#pending.set(id, { callback, dueMs: performance.now() + ms, native });
    this.#worker?.postMessage([id, ms]);
  }

  /** @param {number} id */
  #came(id) {
    const timer = this.#pending.get(id);
    this.#pending.delete(id);
    timer?.callback();
  }

  #doWithout() {
    this.#worker = null;
    for (const [id, { callback, dueMs }] of [...this.#pending]) {
      this.#arm(id, callback, Math.max(0, dueMs - performance.now()));
    }
  }
}
