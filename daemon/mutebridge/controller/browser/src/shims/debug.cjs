/** mqtt.js' debug log, switched off. */
module.exports = () => () => {};
