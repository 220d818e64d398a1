// What tests need that is not part of this package.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

const modules =
  process.env.TIDEGATE_TEST_NODE_MODULES ?? path.join(ROOT, "target/tools/node/node_modules");

function installed(name) {
  const found = path.join(modules, name);
  if (!existsSync(found)) {
    throw new Error(`${found} is missing: run scripts/install-test-tools`);
  }
  return found;
}

/** npm's `ws`, as a WebSocket with limits that suit a gate. */
export function npmWebSocket() {
  const { WebSocket } = createRequire(import.meta.url)(installed("ws"));
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { perMessageDeflate: false, maxPayload: 65_535 });
    }
  };
}

/** The TypeScript compiler's script. */
export const typescript = () => path.join(installed("typescript"), "bin/tsc");

/** The gate that `crates/gate/examples/resume_gate.rs` is. */
export function gateProgram() {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");
  const program = process.env.TIDEGATE_TEST_GATE ?? path.join(target, "debug/examples/resume_gate");
  if (!existsSync(program)) {
    throw new Error(`${program} is missing: cargo build -p tidegate --example resume_gate`);
  }
  return program;
}

/** Debian's Chromium, without a window. */
export async function launchChromium() {
  const { chromium } = createRequire(import.meta.url)(installed("playwright-core"));
  const executablePath = process.env.TIDEGATE_TEST_CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) {
    throw new Error(`${executablePath} is missing: run scripts/install-test-tools`);
  }
  return chromium.launch({
    executablePath,
    // Tests may run as root, in a container.
    args: ["--no-sandbox", "--no-proxy-server", "--disable-background-networking"],
    // Pages that are left are kept, as they are in a browser that no script drives.
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });
}
