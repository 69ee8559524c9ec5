// Renders every icon from its SVG: `node icons/render.mjs`, after `npm ci` in ui/. The results are committed; the tests ask
// whether they are complete and whether the states differ in shape.
//
// icons/tray/light   for light taskbars and panels      icons/tray/dark   for dark ones
// icons/tray/template for macOS, which colours the shape itself

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const icons = fileURLToPath(new URL(".", import.meta.url));
const tauri = join(icons, "../ui/node_modules/@tauri-apps/cli/tauri.js");

// The colours of the window's tokens; the shape alone must say it too.
const colours = {
  light: {
    "needs-attention": "#ab6400",
    "cannot-reach": "#ce2c31",
    "no-news": "#60646c",
    paused: "#1c2024",
    working: "#0d74ce",
    starting: "#60646c",
    "up-to-date": "#218358",
  },
  dark: {
    "needs-attention": "#ffca16",
    "cannot-reach": "#ff9592",
    "no-news": "#b0b4ba",
    paused: "#edeef0",
    working: "#70b8ff",
    starting: "#b0b4ba",
    "up-to-date": "#3dd68c",
  },
};
// Windows shows 16, 20, 24 or 32 by its scale, Linux panels 22 or 24, macOS 22 points.
const sizes = { light: [16, 20, 22, 24, 32], dark: [16, 20, 22, 24, 32], template: [22, 44] };

const work = mkdtempSync(join(tmpdir(), "icons-"));
function render(svg, ...options) {
  execFileSync(process.execPath, [tauri, "icon", svg, "--output", work, ...options], { stdio: "pipe" });
}

try {
  for (const [set, pixels] of Object.entries(sizes)) {
    mkdirSync(join(icons, "tray", set), { recursive: true });
    for (const file of readdirSync(join(icons, "tray/source"))) {
      const state = file.replace(".svg", "");
      const svg = readFileSync(join(icons, "tray/source", file), "utf8");
      const coloured = join(work, file);
      writeFileSync(coloured, svg.replace('color="#000"', `color="${colours[set]?.[state] ?? "#000"}"`));
      render(coloured, ...pixels.flatMap((size) => ["--png", String(size)]));
      for (const size of pixels) {
        renameSync(join(work, `${size}x${size}.png`), join(icons, "tray", set, `${state}-${size}.png`));
      }
    }
  }
  render(join(icons, "app.svg"));
  for (const file of ["32x32.png", "128x128.png", "128x128@2x.png", "icon.png", "icon.ico", "icon.icns"]) {
    cpSync(join(work, file), join(icons, file));
  }
} finally {
  rmSync(work, { recursive: true });
}
