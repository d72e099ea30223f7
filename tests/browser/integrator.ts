// Compiled, never run: what a softphone's developer pastes, with the real types of the SDK.
import { GenesysCloudWebrtcSdk } from "genesys-cloud-webrtc-sdk";

import { connectGenesysEmbeddable } from "../../daemon/mutebridge/controller/browser/adapters/genesys-embeddable.js";
import { EmbeddableStandIn } from "../../daemon/mutebridge/controller/browser/adapters/genesys-embeddable-stand-in.js";
import { connectGenesysWebrtc } from "../../daemon/mutebridge/controller/browser/adapters/genesys-webrtc.js";
import { takePairing } from "../../daemon/mutebridge/controller/browser/mutebridge-controller.js";

const pairing = takePairing();
const sdk = new GenesysCloudWebrtcSdk({ accessToken: "", environment: "mypurecloud.com" });

connectGenesysWebrtc(sdk, { pairing }).addEventListener("command", ({ detail }) => detail.outcome === "missing_scope");
connectGenesysWebrtc(sdk, { pairing, name: "genesys", scopes: async () => ["conversations"], heartbeatS: 5 });
connectGenesysEmbeddable(new EmbeddableStandIn(), { pairing, scopes: "client:call:write interaction:write" });

// @ts-expect-error: the SDK's own types are at work, and want a conversationId
void sdk.setAudioMute({ mute: true });
// @ts-expect-error: a client that tells no state is none
connectGenesysEmbeddable({ on() {} }, { pairing });
