/**
 * A clock that never steps back, in seconds.
 *
 * `performance.now()` stands still while the machine sleeps, in some browsers; a command that a machine finds on waking
 * up must have expired. So whenever the wall clock has got ahead by more than a second since the last reading, this one
 * catches up. A wall clock that was set forward does the same, which can only let a command expire too early.
 */
const SLEPT_MS = 1000;

/** @param {() => number} wall milliseconds @param {() => number} monotonic milliseconds @returns {() => number} */
export function steadyClock(wall = () => Date.now(), monotonic = () => performance.now()) {
  let skippedMs = 0;
  let lastWall = wall();
  let lastMonotonic = monotonic();
  return () => {
    const [wallMs, monotonicMs] = [wall(), monotonic()];
    const aheadMs = wallMs - lastWall - (monotonicMs - lastMonotonic);
    if (aheadMs > SLEPT_MS) skippedMs += aheadMs;
    [lastWall, lastMonotonic] = [wallMs, monotonicMs];
    return (monotonicMs + skippedMs) / 1000;
  };
}
