// Copies what others wrote, builds the style sheet and the icons, and writes the checksums of all
// of it. Run by `make assets`, after `npm ci` in this folder.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
const out = join(here, "..", "static", "dashboard");

const VENDORED = {
  "vendor/htmx.min.js": "htmx.org/dist/htmx.min.js",
  "vendor/alpine-csp.min.js": "@alpinejs/csp/dist/cdn.min.js",
  "vendor/uplot.min.js": "uplot/dist/uPlot.iife.min.js",
  "vendor/uplot.min.css": "uplot/dist/uPlot.min.css",
  "vendor/inter-latin.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  "vendor/licences/htmx.txt": "htmx.org/LICENSE",
  "vendor/licences/uplot.txt": "uplot/LICENSE",
  "vendor/licences/inter.txt": "@fontsource-variable/inter/LICENSE",
  "vendor/licences/lucide.txt": "lucide-static/LICENSE",
  "vendor/licences/tailwindcss.txt": "tailwindcss/LICENSE",
  "vendor/licences/daisyui.txt": "daisyui/LICENSE",
};

rmSync(join(out, "vendor"), { recursive: true, force: true });
for (const [to, from] of Object.entries(VENDORED)) {
  mkdirSync(dirname(join(out, to)), { recursive: true });
  copyFileSync(join(modules, from), join(out, to));
}

// One symbol an icon, so that a page fetches one file and each use is a reference.
const names = readFileSync(join(here, "icons.txt"), "utf8").split("\n").filter((name) => name && !name.startsWith("#"));
const symbols = names.map((name) => {
  const drawn = readFileSync(join(modules, "lucide-static/icons", `${name}.svg`), "utf8");
  const inner = drawn.slice(drawn.indexOf(">", drawn.indexOf("<svg")) + 1, drawn.lastIndexOf("</svg>"));
  return `<symbol id="${name}" viewBox="0 0 24 24">${inner.replace(/\s*\n\s*/g, "")}</symbol>`;
});
writeFileSync(
  join(out, "icons.svg"),
  `<svg xmlns="http://www.w3.org/2000/svg" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">${symbols.join("\n")}</svg>\n`,
);

execFileSync(
  join(modules, ".bin", "tailwindcss"),
  ["--input", join(here, "app.css"), "--output", join(out, "app.css"), "--minify"],
  { cwd: here, stdio: "inherit" },
);

const files = [...Object.keys(VENDORED), "app.css", "icons.svg"].sort();
const sum = (name) => createHash("sha256").update(readFileSync(join(out, name))).digest("hex");
writeFileSync(join(out, "CHECKSUMS"), files.map((name) => `${sum(name)}  ${name}\n`).join(""));
