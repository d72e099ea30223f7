/** The little of Node's `process` that mqtt.js' streams use: a next tick that no hidden tab delays. */
export const nextTick = (callback, ...given) => queueMicrotask(() => callback(...given));
export const versions = {};
export const env = {};
export const emitWarning = () => {};
export const process = { nextTick, versions, env, emitWarning, browser: true };
export default process;
