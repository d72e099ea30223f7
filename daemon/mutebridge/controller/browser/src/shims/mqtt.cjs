/** The two parts of mqtt.js that are used: its client, its stream over a browser's WebSocket. */
exports.MqttClient = require("mqtt/lib/client").default;
exports.browserStreamBuilder = require("mqtt/lib/connect/ws").browserStreamBuilder;
