// The package as it is published: its types, its files, its promises.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as tidegate from "tidegate-client";
import { ROOT, typescript } from "./support/tools.js";

const run = promisify(execFile);
const HERE = fileURLToPath(new URL("..", import.meta.url));
const read = (file) => readFileSync(path.join(HERE, file), "utf8");
const PACKAGE = JSON.parse(read("package.json"));

test("the types compile, and refuse what is wrong", async () => {
  const project = path.join(HERE, "test/types");
  await run(process.execPath, [typescript(), "--project", project]).catch(({ stdout, stderr }) => {
    assert.fail(stdout + stderr);
  });
});

test("the types say what there is", () => {
  const types = read("index.d.ts");
  const declared = [...types.matchAll(/^export (?:class|const) (\w+)/gm)].map(([, name]) => name);
  // Packet is a type only: nobody makes one.
  const exported = Object.keys(tidegate).filter((name) => name !== "Packet");
  assert.deepEqual(declared.sort(), exported.sort());
  for (const name of ["ErrorCode", "ResumeRefusal", "CloseCode"]) {
    const body = types.split(`export const ${name}: {`)[1].split("}")[0];
    const members = [...body.matchAll(/readonly (\w+): (\d+);/g)];
    assert.deepEqual(Object.fromEntries(members.map(([, n, code]) => [n, Number(code)])), {
      ...tidegate[name],
    });
  }
  for (const [, option] of types.split("export interface Options {")[1].matchAll(/^ {2}(\w+)\?:/gm)) {
    assert.ok(usesOption(option), option);
  }
});

function usesOption(option) {
  const sources = readdirSync(path.join(HERE, "src")).map((file) => read(`src/${file}`));
  return sources.some((source) => new RegExp(`\\b${option}\\b`).test(source));
}

test("the package holds what it needs, and nothing else", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: HERE,
    env: { ...process.env, npm_config_offline: "true", npm_config_update_notifier: "false" },
  });
  const files = JSON.parse(stdout)[0].files.map((file) => file.path);
  const sources = readdirSync(path.join(HERE, "src")).map((file) => `src/${file}`);
  const wanted = ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "index.d.ts", "package.json"];
  assert.deepEqual(files.sort(), [...wanted, ...sources].sort());
  assert.equal(PACKAGE.dependencies, undefined);
  for (const licence of ["LICENSE-APACHE", "LICENSE-MIT"]) {
    assert.equal(read(licence), readFileSync(path.join(ROOT, licence), "utf8"));
  }
});

test("sources stand alone, evaluate nothing, and are short", () => {
  for (const file of readdirSync(path.join(HERE, "src"))) {
    const source = read(`src/${file}`);
    assert.ok(source.split("\n").length <= 400, file);
    for (const [, from] of source.matchAll(/from "([^"]+)"/g)) assert.match(from, /^\.\/\w+\.js$/);
    assert.doesNotMatch(source, /\beval\b|new Function|innerHTML|import\(/, file);
  }
});

test("the version stands where it is told", () => {
  const cargo = readFileSync(path.join(ROOT, "Cargo.toml"), "utf8");
  assert.ok(cargo.includes(`version = "${PACKAGE.version}"`));
  assert.ok(read("src/options.js").includes(`tidegate-client-js/${PACKAGE.version}`));
  assert.match(read("CHANGELOG.md"), /Unreleased/);
});

test("the examples of the README are JavaScript, and import what there is", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "tidegate-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const blocks = read("README.md").split("```js\n").slice(1);
  assert.ok(blocks.length >= 3);
  for (const [i, block] of blocks.entries()) {
    const code = block.split("```")[0];
    const imported = [...code.matchAll(/import \{([^}]+)\} from "tidegate-client"/g)];
    for (const name of imported.flatMap(([, names]) => names.split(","))) {
      assert.ok(name.trim() in tidegate, name);
    }
    const file = path.join(folder, `${i}.mjs`);
    writeFileSync(file, code);
    await run(process.execPath, ["--check", file]);
  }
});
