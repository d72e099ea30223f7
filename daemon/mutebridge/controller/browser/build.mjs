// Makes mutebridge-controller.js of src/ and of mqtt.js: `npm ci && npm run build`. The same bytes every time.
import { readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const shim = (name) => join(here, "src", "shims", name);
const SHIMS = { debug: "debug.cjs", "process/": "process.js", ws: "unused.js", "worker-timers": "unused.js" };
const shims = {
  name: "shims",
  setup: ({ onResolve }) =>
    onResolve({ filter: /^(debug|process\/|ws|worker-timers)$/ }, ({ path }) => ({ path: shim(SHIMS[path]) })),
};

const { outputFiles, metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["src/index.js"],
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none", // the notices below are complete
  define: { global: "globalThis" },
  inject: [shim("process.js")],
  plugins: [shims],
  metafile: true,
  write: false,
});
const [{ text }] = outputFiles;
await writeFile(join(here, "mutebridge-controller.js"), `${await notices()}\n${text}`);

async function notices() {
  const [{ inputs }] = Object.values(metafile.outputs);
  const used = Object.entries(inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  const packages = new Set(used.map(([path]) => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1]));
  packages.delete(undefined);
  const texts = await Promise.all([...packages].sort().map(notice));
  return [
    "/*!\nmutebridge-controller: makes a web softphone a session controller of mutebridge. MIT licence.\n" +
      "Made of src/ by build.mjs; not to be edited. It contains the following packages.\n",
    ...texts,
    "*/",
  ].join("\n");
}

async function notice(path) {
  const folder = join(here, path);
  const { name, version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).sort().find((each) => /^licen[cs]e/i.test(each));
  if (!file) throw new Error(`${name} has no licence file`);
  const licence = (await readFile(join(folder, file), "utf8")).replaceAll("\r\n", "\n").trim();
  if (licence.includes("*/")) throw new Error(`the licence of ${name} does not fit into a comment`);
  const ruled = licence.split("\n").map((line) => `  ${line.trimEnd()}`.trimEnd());
  return `${name} ${version} (${license})\n\n${ruled.join("\n")}\n`;
}
