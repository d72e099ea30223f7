/** The page's softphone as the Genesys Embeddable Client SDK has it: a client that stands in for the SDK's, adapted. */
import { EmbeddableStandIn } from "./adapters/genesys-embeddable-stand-in.js";
import { connectGenesysEmbeddable } from "./adapters/genesys-embeddable.js";

const SCOPE = "client:call:write";

class EmbeddableSoftphone extends EventTarget {
  title = "Genesys Embeddable Client SDK, a stand-in";
  faults = [
    { key: "missing_scope", label: `the access token lacks ${SCOPE}` },
    { key: "not_owner", label: "another application owns the call" },
  ];
  #client = new EmbeddableStandIn();

  constructor() {
    super();
    const changed = () => this.dispatchEvent(new Event("change"));
    this.#client.on("stateChange", changed);
    this.#client.onMicStateChange(changed);
  }

  get state() {
    return this.#client.getState();
  }

  get mic() {
    return this.#client.muted;
  }

  can() {
    const hand = this.mic === null ? [] : [this.mic ? "unmute" : "mute"];
    return [...this.#client.can(), ...hand];
  }

  act(verb) {
    if (verb === "mute" || verb === "unmute") this.#client.hand(verb === "mute");
    else this.#client.do(verb);
  }

  fault(key, on) {
    if (key === "not_owner") return (this.#client.ownedByOther = on ?? this.#client.ownedByOther);
    if (on !== undefined) this.#client.scopes[on ? "delete" : "add"](SCOPE);
    return !this.#client.scopes.has(SCOPE);
  }

  serve(pairing) {
    return connectGenesysEmbeddable(this.#client, { pairing, scopes: () => [...this.#client.scopes] });
  }
}

export const makeSoftphone = () => new EmbeddableSoftphone();
