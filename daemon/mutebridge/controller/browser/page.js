/** A softphone page to try a button with: what a person sees of the call, the microphone, the presses. */
import { readPairing, takePairing } from "./mutebridge-controller.js";

/** What `?adapter=` may choose; the first without it. */
const SOFTPHONES = { simulated: "./page_softphone.js", "genesys-embeddable": "./page_genesys_embeddable.js" };
const MAX_LINES = 200;
const element = (id) => document.getElementById(id);
const adapter = new URLSearchParams(location.search).get("adapter") ?? "simulated";
const { makeSoftphone } = await import(Object.hasOwn(SOFTPHONES, adapter) ? SOFTPHONES[adapter] : SOFTPHONES.simulated);
const softphone = makeSoftphone();
let station = "";

// --- the softphone

function showSoftphone() {
  const can = softphone.can();
  element("call").textContent = softphone.state;
  for (const button of document.querySelectorAll("[data-verb]")) button.disabled = !can.includes(button.dataset.verb);
  const mic = softphone.mic === null ? "none" : softphone.mic ? "muted" : "live";
  element("mic").dataset.mic = mic;
  element("mic").textContent = mic === "none" ? "no connected call" : mic;
  element("mute").disabled = mic === "none";
  element("mute").textContent = mic === "muted" ? "Unmute" : "Mute";
  element("mute").setAttribute("aria-pressed", String(mic === "muted"));
  for (const box of document.querySelectorAll("[data-fault]")) box.checked = softphone.fault(box.dataset.fault);
}

for (const button of document.querySelectorAll("[data-verb]")) {
  button.addEventListener("click", () => softphone.act(button.dataset.verb));
}
element("mute").addEventListener("click", () => softphone.act(softphone.mic ? "unmute" : "mute"));
for (const { key, label } of softphone.faults) {
  const box = Object.assign(document.createElement("input"), { type: "checkbox" });
  box.dataset.fault = key;
  box.addEventListener("change", () => softphone.fault(key, box.checked));
  const line = document.createElement("label");
  line.append(box, label);
  element("faults").append(line);
}
element("title").textContent = softphone.title;
softphone.addEventListener("change", showSoftphone);
showSoftphone();

// --- the controller

function showStatus({ connected, leading, bridge, problem }) {
  const chip = (id, text, good, bad) => {
    element(id).textContent = text;
    element(id).className = good ? "good" : bad ? "bad" : "";
  };
  chip("broker", connected ? "broker connected" : "broker not connected", connected, leading && !connected);
  const nobody = connected && bridge === "unknown"; // has ever been heard of there
  const daemon = nobody ? `no daemon at station ${station}` : `daemon ${bridge}`;
  chip("bridge", daemon, bridge === "online", bridge === "offline");
  chip("leading", leading ? "this tab leads" : "another tab leads", leading, false);
  element("problem").hidden = !problem;
  element("problem").textContent = problem;
}

function log(what, good, why) {
  const line = document.createElement("li");
  const now = new Date();
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, "0")}`;
  const [said, because] = [document.createElement("span"), document.createElement("span")];
  said.textContent = what;
  because.textContent = why;
  because.className = good === null ? "" : good ? "ok" : "no";
  line.append(time, said, because);
  element("log").prepend(line);
  while (element("log").childElementCount > MAX_LINES) element("log").lastElementChild.remove();
}

function showCommand({ detail: { action, muted, outcome, reason } }) {
  const what = action === "set_mute" ? (muted ? "mute" : "unmute") : action.replace("_", " ");
  log(`command: ${what}`, outcome === "ok", outcome === "ok" ? "done" : `${outcome}: ${reason}`);
}

function showPress({ detail: { device, outcome, reason, detail, latency_ms } }) {
  const good = { confirmed: true, sent: null, superseded: null }[outcome];
  const took = outcome === "ignored" || latency_ms === undefined ? "" : `after ${latency_ms.toFixed(0)} ms`;
  log(`press: ${outcome}`, good === undefined ? false : good, [reason, detail, took, device].filter(Boolean).join(" · "));
}

function serve(pairing) {
  element("pair").hidden = true;
  station = pairing.station;
  const controller = softphone.serve(pairing);
  controller.addEventListener("status", ({ detail }) => showStatus(detail));
  controller.addEventListener("command", showCommand);
  controller.addEventListener("press", showPress);
  showStatus(controller.status);
  controller.start();
}

function tellProblem(error) {
  element("problem").hidden = false;
  element("problem").textContent = error.message;
}

element("pair").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    if (!readPairing(element("link").value)) throw new Error("this is no pairing link: it holds no #mutebridge=…");
    location.hash = new URL(element("link").value, location.href).hash; // which loads the page anew
  } catch (error) {
    tellProblem(error);
  }
});

element("pair").hidden = false;
try {
  const pairing = takePairing("*"); // the Content-Security-Policy knows one broker
  if (pairing) serve(pairing);
} catch (error) {
  tellProblem(error);
}
if (!Object.hasOwn(SOFTPHONES, adapter)) {
  tellProblem(new Error(`adapter=${adapter}: there are ${Object.keys(SOFTPHONES).join(" and ")}`));
}
