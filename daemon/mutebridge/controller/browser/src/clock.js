/**
 * A clock that never steps back, in seconds.
 *
 * `performance.now()` stands still while the machine sleeps, in some browsers; a command that a machine finds on waking
 * up must have expired. So whenever the wall clock has got ahead by more than a second since the last reading, this one
 * catches up. A wall clock that was set forward does the same, which can only let a command expire too early.
 */
const SLEPT_MS = 1000;

export class SteadyClock {
  /** How much it has caught up so far. */
  skippedMs = 0;
  #wallMs = Date.now();
  #monotonicMs = performance.now();

  now() {
    const [wallMs, monotonicMs] = [Date.now(), performance.now()];
    const aheadMs = wallMs - this.#wallMs - (monotonicMs - this.#monotonicMs);
    if (aheadMs > SLEPT_MS) this.skippedMs += aheadMs;
    [this.#wallMs, this.#monotonicMs] = [wallMs, monotonicMs];
    return (monotonicMs + this.skippedMs) / 1000;
  }
}
