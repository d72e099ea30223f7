/** What mqtt.js imports for Node, or for timers and sockets that we give it. */
export const setInterval = undefined;
export const clearInterval = undefined;
export default undefined;
