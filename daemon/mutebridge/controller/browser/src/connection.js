/**
 * The connection to the broker: made, subscribed, supervised, made again.
 *
 * mqtt.js is imported here only. One of its clients serves one connection and neither reconnects nor keeps time by
 * itself: whatever was queued inside dies with it, and no timer of a hidden tab is waited for. MQTT 5 first, 3.1.1
 * where the broker refuses that.
 *
 * @typedef {import("mqtt").MqttClient} Client
 * @typedef {{topic: string, payload: string, retain: boolean}} Message
 * @typedef {{
 *   url: string, clientId: string, username: string | undefined, password: string | undefined, will: Message,
 *   subscriptions: Record<string, 0 | 1>, timers: import("./timers.js").Timers,
 *   onUp: () => void, onLost: () => void, onMessage: (topic: string, payload: Uint8Array) => void,
 *   onProblem: (problem: string) => void,
 * }} Settings
 */
import { MqttClient, browserStreamBuilder } from "./shims/mqtt.cjs";

const CONNECT_TIMEOUT_S = 5; // until subscribed
const ANSWER_TIMEOUT_S = 4; // of the broker to what was published
const KEEPALIVE_S = 10;
const RETRY_FIRST_S = 1;
const RETRY_MAX_S = 60;
const STABLE_AFTER_S = 10; // a connection that lived for less is no reason to hurry with the next
const FAREWELL_TIMEOUT_S = 1;
const MAX_PACKET_BYTES = 256 * 1024;
const TAKEOVER_WINDOW_S = 60;
const FATAL_TAKEOVERS = 3; // told by the broker; few do over WebSockets
// In a row, each soon after it was up, while the broker lived on: one that died cannot have published the will of the
// connection that was lost (an older one that it stored, and brings back each time, is taken for that).
const FATAL_DROPS = 5;
// Reason codes of MQTT 5 (2.4); those of 3.1.1 are smaller.
const UNSUPPORTED_PROTOCOL = [0x84, 0x01];
const NOT_AUTHORISED = [0x86, 0x87, 0x04, 0x05];
const TAKEN_OVER = 0x8e;

const monotonicS = () => performance.now() / 1000;

export class Connection {
  #settings;
  /** @type {5 | 4} */
  #protocolVersion = 5;
  /** @type {Client | null} */
  #client = null;
  #up = false;
  #everUp = false;
  #stopped = false;
  #upAt = 0;
  #attempt = 0;
  /** @type {number | null} */
  #retryTimer = null;
  /** @type {number | null} */
  #watchTimer = null;
  #unanswered = 0;
  /** @type {number[]} */
  #takeovers = [];
  /** @type {number[]} */
  #drops = [];
  #willSpoke = false; // our own, or another client's of our id, heard in this connection
  #connectNow = () => {
    if (!this.#client && !this.#stopped && document.visibilityState === "visible") this.#connect();
  };

  /** @param {Settings} settings */
  constructor(settings) {
    this.#settings = settings;
  }

  start() {
    // Whoever comes back, to the network or to the tab, need not wait for the next attempt.
    addEventListener("online", this.#connectNow);
    document.addEventListener("visibilitychange", this.#connectNow);
    this.#connect();
  }

  /** At QoS 1, now or never. @param {Message} message */
  publish({ topic, payload, retain }) {
    const client = this.#client;
    if (!client || !this.#up) return;
    this.#unanswered += 1;
    if (this.#unanswered === 1) this.#watch(ANSWER_TIMEOUT_S, "the broker does not answer any more");
    client.publish(topic, payload, { qos: 1, retain }, (error) => {
      if (client !== this.#client) return;
      this.#unanswered -= 1;
      this.#watchTimer = this.#forget(this.#watchTimer);
      if (this.#unanswered) this.#watch(ANSWER_TIMEOUT_S, "the broker does not answer any more");
      if (!error) return;
      const mend = "check station and name, and the broker's access list";
      this.#settings.onProblem(`the broker refuses what is published on ${topic} (${error.message}): ${mend}`);
    });
  }

  /** Say `farewell`, disconnect, and never connect again. @param {Message} farewell @returns {Promise<void>} */
  async stop(farewell) {
    const client = this.#retire();
    if (!client) return;
    await new Promise((/** @type {(value?: undefined) => void} */ done) => {
      const timer = this.#settings.timers.set(() => done(), FAREWELL_TIMEOUT_S * 1000);
      const { topic, payload, retain } = farewell;
      client.publish(topic, payload, { qos: 1, retain }, () => {
        client.end(false, () => {
          this.#settings.timers.clear(timer);
          done();
        });
      });
    });
    client.end(true);
  }

  /** Be gone before the page is: the will says what a farewell would, which nobody could wait for. */
  leave() {
    this.#retire()?.end(true);
  }

  /** @returns {Client | null} the client, if it is up; nobody else cares for it from now on */
  #retire() {
    removeEventListener("online", this.#connectNow);
    document.removeEventListener("visibilitychange", this.#connectNow);
    this.#stopped = true;
    this.#retryTimer = this.#forget(this.#retryTimer);
    const client = this.#client;
    const wasUp = this.#up;
    this.#drop();
    if (!wasUp) client?.end(true);
    return wasUp ? client : null;
  }

  // --- one attempt

  #connect() {
    this.#retryTimer = this.#forget(this.#retryTimer);
    const { url, clientId, username, password, will, timers } = this.#settings;
    const { protocol, hostname, port, pathname, search } = new URL(url);
    /** @type {WebSocket | undefined} */
    let socket;
    const properties = { sessionExpiryInterval: 0, maximumPacketSize: MAX_PACKET_BYTES };
    /** @type {import("mqtt").IClientOptions} */
    const options = {
      protocol: protocol === "wss:" ? "wss" : "ws",
      hostname,
      port: Number(port) || (protocol === "wss:" ? 443 : 80),
      path: pathname + search,
      clientId,
      username,
      password: /** @type {any} */ (password), // mqtt-packet takes text as well as bytes
      will: { topic: will.topic, payload: /** @type {any} */ (will.payload), qos: 1, retain: will.retain },
      protocolVersion: this.#protocolVersion,
      clean: true,
      keepalive: KEEPALIVE_S,
      reconnectPeriod: 0,
      resubscribe: false,
      queueQoSZero: false,
      connectTimeout: 2 ** 31 - 1, // ours is shorter
      timerVariant: /** @type {any} */ ({
        set: (/** @type {() => void} */ callback, /** @type {number} */ ms) => timers.every(callback, ms),
        clear: (/** @type {number} */ id) => timers.clear(id),
      }),
      createWebsocket: (address, protocols) => (socket = new WebSocket(address, protocols)),
    };
    if (this.#protocolVersion === 5) options.properties = properties;
    let client;
    try {
      client = new MqttClient(
        (each) => /** @type {any} */ (browserStreamBuilder)(each, options), /** @type {any} */ (options),
      );
    } catch (error) { // of WebSocket's constructor, as for ws: from an HTTPS page
      if (!(error instanceof DOMException)) throw error;
      this.#settings.onProblem(`cannot connect to ${url}: ${error.message}`);
      this.#retry();
      return;
    }
    this.#client = client;
    this.#willSpoke = false;
    const mine = (/** @type {(...given: any[]) => void} */ react) => (/** @type {any[]} */ ...given) => {
      if (client === this.#client) react(...given);
    };
    let opened = false;
    /** @type {WebSocket} */ (socket).addEventListener("open", () => (opened = true));
    this.#watch(CONNECT_TIMEOUT_S, `${url} does not answer: is it an MQTT broker?`);
    client.on("connect", mine(() => this.#subscribe(client)));
    client.on("message", mine((topic, payload) => {
      if (topic === will.topic && new TextDecoder().decode(payload) === will.payload) this.#willSpoke = true;
      this.#settings.onMessage(topic, payload);
    }));
    client.on("disconnect", mine(({ reasonCode }) => this.#ended(this.#toldToGo(reasonCode))));
    client.on("close", mine(() => this.#closed(opened)));
    client.on("error", (error) => { // without a listener it would be thrown
      if (client === this.#client) this.#failed(error);
    });
  }

  /** @param {Client} client */
  #subscribe(client) {
    const topics = Object.fromEntries(
      Object.entries(this.#settings.subscriptions).map(([topic, qos]) => [topic, { qos }]),
    );
    client.subscribe(topics, (error) => {
      if (client !== this.#client) return;
      if (error) {
        this.#ended(`the broker refuses a subscription (${error.message}): check its access list`);
        return;
      }
      this.#watchTimer = this.#forget(this.#watchTimer);
      this.#unanswered = 0;
      this.#up = this.#everUp = true;
      this.#upAt = monotonicS();
      this.#settings.onUp();
    });
  }

  /** @param {Error & {code?: number}} error */
  #failed(error) {
    const code = error.code ?? 0;
    if (this.#protocolVersion === 5 && UNSUPPORTED_PROTOCOL.includes(code)) {
      this.#protocolVersion = 4;
      this.#drop()?.end(true);
      this.#connect();
      return;
    }
    if (NOT_AUTHORISED.includes(code)) {
      const who = JSON.stringify(this.#settings.username ?? "");
      const mend = "open this page by a new link of `mutebridge pair`, or check username and password";
      this.#ended(`the broker refuses user ${who} for ${location.origin} (${error.message}): ${mend}`);
      return;
    }
    this.#ended(`the broker: ${error.message}`);
  }

  /** @param {boolean} opened whether there was a connection at all */
  #closed(opened) {
    // Where it only hung up on the CONNECT, the other version is next: it may have been the moment, not the version.
    if (opened && !this.#everUp) this.#protocolVersion = this.#protocolVersion === 5 ? 4 : 5;
    if (this.#up) this.#drops = this.#isStable() ? [] : lately(this.#willSpoke ? this.#drops : []);
    this.#ended(opened ? "the connection to the broker broke" : this.#unreachable());
  }

  /** @param {number} reasonCode @returns {string} */
  #toldToGo(reasonCode) {
    if (reasonCode !== TAKEN_OVER) return `the broker ended the connection (reason ${reasonCode})`;
    this.#takeovers = lately(this.#takeovers);
    return `another one connected as ${this.#settings.clientId}`;
  }

  #unreachable() {
    // The browser tells scripts no more than that.
    const { url } = this.#settings;
    const trusted = url.startsWith("wss:") ? ", with a certificate that this browser trusts" : "";
    return (
      `cannot connect to ${url}. Does a broker listen there, for WebSockets${trusted}? Is ${location.origin} paired ` +
      "with it? Do the page's Content-Security-Policy and the browser's permissions (local network) let it?"
    );
  }

  // --- its end

  /** @param {string} problem */
  #ended(problem) {
    this.#drop()?.end(true);
    this.#settings.onProblem(problem);
    this.#retry();
  }

  /** @returns {Client | null} what was the client */
  #drop() {
    const [client, wasUp] = [this.#client, this.#up];
    this.#client = null;
    this.#up = false;
    this.#watchTimer = this.#forget(this.#watchTimer);
    if (wasUp) {
      if (this.#isStable()) this.#attempt = 0;
      this.#settings.onLost();
    }
    return client;
  }

  #isStable() {
    return monotonicS() - this.#upAt > STABLE_AFTER_S;
  }

  #retry() {
    if (this.#stopped) return;
    if (this.#takeovers.length >= FATAL_TAKEOVERS || this.#drops.length >= FATAL_DROPS) {
      // Going on would disturb the other one again and again. Whoever looks at the page again may try once more.
      [this.#takeovers, this.#drops] = [[], []];
      const often = `it lost the broker ${FATAL_TAKEOVERS} times or more, each time soon after it was connected`;
      this.#settings.onProblem(
        `${often}: most likely another softphone serves this station as ${this.#settings.clientId}. Close one of ` +
          "them, or pair one under another name; then reload this page",
      );
      return;
    }
    const bound = Math.min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** Math.min(this.#attempt, 10));
    this.#attempt += 1;
    // Full jitter: the clients of a restarted broker come back one by one.
    this.#retryTimer = this.#settings.timers.set(() => this.#connect(), Math.random() * bound * 1000);
  }

  /** Give up the connection unless the timer is cleared in time. @param {number} timeoutS @param {string} problem */
  #watch(timeoutS, problem) {
    this.#watchTimer = this.#forget(this.#watchTimer);
    this.#watchTimer = this.#settings.timers.set(() => this.#ended(problem), timeoutS * 1000);
  }

  /** @param {number | null} timer @returns {null} */
  #forget(timer) {
    this.#settings.timers.clear(timer);
    return null;
  }
}

/** Those of `moments` that still count, and now. @param {number[]} moments */
function lately(moments) {
  const now = monotonicS();
  return [...moments.filter((at) => now - at < TAKEOVER_WINDOW_S), now];
}
