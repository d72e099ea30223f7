"""The adapters of the Genesys SDKs, as far as they need no browser: their types, and what Node can run."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.integration.browser_page import FOLDER, Chromium, PageServer, link, needs_chromium, pairing
from tests.integration.daemon_station import Onlooker
from tests.integration.genesys_softphone import ROOT, TOOLS, fetches, install_tools, needs_npm
from tests.integration.websocket_broker import WebSocketBroker

pytestmark = [needs_npm, fetches]

_BLOCKS = re.findall(r"^```js\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
_SNIPPETS = [block for block in _BLOCKS if "connectGenesys" in block]
_GIVEN = """
import type { GenesysCloudWebrtcSdk } from "genesys-cloud-webrtc-sdk";
import type { EmbeddableClient } from "mutebridge/adapters/genesys-embeddable.js";
declare global {
  const client: EmbeddableClient;
  const grantedScopes: string[];
  const softphone: {
    scopes: string[];
    mute(muted: boolean, callId: string): Promise<void>;
    on(event: "call", listener: (state: string, callId: string) => void): void;
    on(event: "mic", listener: (muted: boolean) => void): void;
  };
  const sdk: GenesysCloudWebrtcSdk;
}
"""
_SOFTPHONE = """<!doctype html><script type="module">
import { EmbeddableStandIn } from "/mutebridge/adapters/genesys-embeddable-stand-in.js";
globalThis.client = new EmbeddableStandIn();
globalThis.grantedScopes = ["client:call:write", "interaction:write"];
await import("./readme.js");
</script>"""


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    install_tools()


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_compile_against_the_real_types_of_the_sdk() -> None:
    run("npx", "tsc", "--project", ".")


def test_the_embeddable_adapter() -> None:
    run("node", "--test", "genesys-embeddable.test.js")


def test_the_lines_of_the_readme_compile(tmp_path: Path) -> None:
    assert len(_BLOCKS) == 3
    for number, snippet in enumerate(_BLOCKS):
        (tmp_path / f"{number}.ts").write_text(snippet.replace('"/mutebridge/', '"mutebridge/'))
    (tmp_path / "given.ts").write_text(_GIVEN)
    sdk = "genesys-cloud-webrtc-sdk"
    paths = {"mutebridge/*": [f"{FOLDER}/*"], sdk: [f"{TOOLS}/node_modules/{sdk}"]}
    config = {"extends": f"{TOOLS}/tsconfig.json", "compilerOptions": {"paths": paths}, "include": ["*.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    run("npx", "tsc", "--project", str(tmp_path))


@pytest.mark.broker
@needs_chromium
def test_the_lines_of_the_readme_connect_a_softphone(tmp_path: Path) -> None:
    (embeddable,) = [snippet for snippet in _SNIPPETS if "connectGenesysEmbeddable" in snippet]
    (tmp_path / "mutebridge").symlink_to(FOLDER)
    (tmp_path / "page.html").write_text(_SOFTPHONE)
    (tmp_path / "readme.js").write_text(embeddable)
    with (
        WebSocketBroker(tmp_path) as broker,
        Onlooker(broker.port) as onlooker,
        PageServer(tmp_path) as server,
        Chromium() as chromium,
    ):
        chromium.open(link(server.url, pairing(broker.websocket_port)))
        onlooker.wait("desk/controller/softphone/availability", lambda said: said.payload == "online")
