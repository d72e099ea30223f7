// The adapter of the Embeddable Client SDK, before a stand-in with the SDK's documented refusals.
import assert from "node:assert/strict";
import { test } from "node:test";

import { EmbeddableStandIn } from "../../daemon/mutebridge/controller/browser/adapters/genesys-embeddable-stand-in.js";
import { follow, setMute } from "../../daemon/mutebridge/controller/browser/adapters/genesys-embeddable.js";
import { missingScopes } from "../../daemon/mutebridge/controller/browser/adapters/scopes.js";

/** Writes down what a session controller is told. */
class Told {
  said = [];
  callChanged(state) {
    this.said.push(state);
  }
  micChanged(muted) {
    this.said.push(muted === null ? "unknown" : muted ? "muted" : "live");
  }
  take() {
    return this.said.splice(0).join(" ");
  }
}

function followed(client = new EmbeddableStandIn()) {
  const told = new Told();
  return { client, told, unfollow: follow(client, told) };
}

const connected = (client) => ["ring", "connect"].forEach((verb) => client.do(verb));
const refusedAs = (error, detail) => (refused) => refused.error === error && detail.test(refused.detail);
const base64url = (text) => Buffer.from(text).toString("base64url");
const jwt = (claims) => ["{}", JSON.stringify(claims), "?"].map(base64url).join(".");

test("a call and its microphone are told as they happen", () => {
  const { client, told } = followed();
  for (const verb of ["ring", "connect"]) client.do(verb);
  client.hand(true);
  for (const verb of ["hold", "resume", "end"]) client.do(verb);
  assert.equal(told.take(), "ringing connected live muted held connected disconnected");
});

test("a call that goes on already is told at once", () => {
  const client = new EmbeddableStandIn();
  connected(client);
  assert.equal(followed(client).told.take(), "connected");
});

test("asking tells nothing: the microphone's own event does", async () => {
  const { client, told } = followed();
  connected(client);
  told.take();
  await setMute(client, true);
  assert.equal(told.take(), "muted");
  client.muteMic = async () => {}; // an SDK that agrees, and does nothing
  await setMute(client, false);
  assert.equal(told.take(), "");
});

for (const off of [EmbeddableStandIn.prototype.off, undefined]) {
  test(`after the end of following nothing is told${off ? "" : ", by a client without off either"}`, () => {
    const { client, told, unfollow } = followed(Object.assign(new EmbeddableStandIn(), { off }));
    unfollow();
    connected(client);
    assert.equal(told.take(), "");
  });
}

for (const [state, verbs] of Object.entries({
  disconnected: [],
  ringing: ["ring"],
  dialing: ["dial"],
  held: ["ring", "connect", "hold"],
})) {
  test(`while ${state} the SDK is never asked`, async () => {
    const { client } = followed();
    for (const verb of verbs) client.do(verb);
    assert.equal(client.sessions.getSessionByType("voice") !== null, state !== "disconnected");
    await assert.rejects(setMute(client, true), refusedAs("not_connected", new RegExp(state)));
    assert.deepEqual(client.asked, []);
  });
}

test("a call that ends between the look and the call is not connected, whatever the token lacks", async () => {
  const { client } = followed();
  connected(client);
  const muteMic = client.muteMic.bind(client);
  client.muteMic = (muted) => {
    client.do("end");
    return muteMic(muted);
  };
  await assert.rejects(setMute(client, true, []), refusedAs("not_connected", /disconnected/));
});

test("a call that ends before the SDK answers is not connected either", async () => {
  const { client } = followed();
  connected(client);
  client.muteMic = async () => {
    await null;
    client.do("end");
    throw new Error("Operation Not Allowed");
  };
  await assert.rejects(setMute(client, true), refusedAs("not_connected", /disconnected/));
});

for (const [how, scopes] of Object.entries({
  "a list": ["interaction:write"],
  "a text": "interaction:write openid",
  "a token": jwt({ scope: "interaction:write" }),
  "a token with a list": jwt({ scp: ["interaction:write"] }),
  "a function": () => ["interaction:write"],
  "a promise": async () => "interaction:write",
})) {
  test(`the missing scope is named, known from ${how}`, async () => {
    const { client } = followed();
    connected(client);
    client.scopes.delete("client:call:write");
    await assert.rejects(setMute(client, true, scopes), refusedAs("missing_scope", /lacks client:call:write;/));
    assert.equal(client.muted, false);
  });
}

test("with all scopes it is refused, not missing", async () => {
  const { client } = followed();
  connected(client);
  client.ownedByOther = true;
  const scopes = () => [...client.scopes];
  await assert.rejects(setMute(client, true, scopes), refusedAs("not_allowed", /token has client:call:write/));
});

test("what cannot be known is not claimed", async () => {
  const { client } = followed();
  connected(client);
  client.scopes.clear();
  const opaque = "p2ZdSNbKYYyhXMDbeLiXeDdSxJkmWY4gXwTmqGBQ0zRJ";
  for (const scopes of [undefined, null, "", opaque, jwt({ sub: "me" }), "a.b.c"]) {
    await assert.rejects(setMute(client, true, scopes), refusedAs("not_allowed", /not known here/));
  }
});

test("scopes that fail or never come are not known, within the time that a command has", async () => {
  const never = () => new Promise(() => {});
  const failing = () => Promise.reject(new Error("no network"));
  assert.equal(await missingScopes(failing, ["client:call:write"]), null);
  const began = performance.now();
  assert.equal(await missingScopes(never, ["client:call:write"]), null);
  assert.ok(performance.now() - began < 900);
});

test("any other failure of the SDK is its own", async () => {
  const { client } = followed();
  connected(client);
  const broken = new Error("socket closed");
  client.muteMic = () => Promise.reject(broken);
  await assert.rejects(setMute(client, true), broken);
});

test("a client that mutes only through its session is asked there", async () => {
  const { client, told } = followed();
  connected(client);
  told.take();
  const session = client.sessions.getSessionByType("voice");
  const muteMic = client.muteMic.bind(client);
  session.muteMic = muteMic;
  client.muteMic = undefined;
  await setMute(client, true);
  assert.equal(told.take(), "muted");
  client.sessions = { getSessionByType: () => null };
  await assert.rejects(setMute(client, true), refusedAs("not_connected", /no voice session/));
});

test("a client whose microphone is an event is heard too", () => {
  const client = new EmbeddableStandIn();
  client.onMicStateChange = undefined;
  const { told } = followed(client);
  connected(client);
  assert.equal(told.take(), "ringing connected live");
});

for (const [said, heard] of [
  [true, "muted"],
  [false, "live"],
  ["muted", "muted"],
  ["unmuted", "live"],
  [{ muted: true }, "muted"],
]) {
  test(`${JSON.stringify(said)} is ${heard}`, () => {
    const { client, told } = followed();
    connected(client);
    told.take();
    client.tellMic(said);
    assert.equal(told.take(), heard);
  });
}

test("a microphone state that cannot be read makes it unknown", (context) => {
  context.mock.method(console, "warn", () => {});
  const { client, told } = followed();
  connected(client);
  told.take();
  client.tellMic({ state: 3 });
  assert.equal(told.take(), "unknown");
});

test("what is said between two calls is about neither", () => {
  const { client, told } = followed();
  client.tellMic(true);
  connected(client);
  client.do("end");
  client.tellMic(true);
  assert.equal(told.take(), "ringing connected live disconnected");
});

test("a microphone that speaks before its call is a call's", () => {
  const { client, told } = followed();
  client.getState = () => "connected";
  client.tellMic(true);
  assert.equal(told.take(), "connected muted");
});

test("a new call that takes the place of a connected one ends it first", () => {
  const { client, told } = followed();
  connected(client);
  client.tellState("ringing");
  assert.equal(told.take(), "ringing connected live disconnected ringing");
});
