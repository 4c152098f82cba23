// The official TypeScript client lists and calls over both transports: typescript_client.mjs HERALD BASE_URL
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [herald, base] = process.argv.slice(2);
const transports = {
  http: new StreamableHTTPClientTransport(new URL(`${base}/mcp`)),
  stdio: new StdioClientTransport({ command: herald, args: ["stdio"], env: process.env }),
};
for (const [label, transport] of Object.entries(transports)) {
  const client = new Client({ name: "herald-check", version: "1.0.0" });
  await client.connect(transport);
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  assert(names.includes("send_message_to_slack") && names.includes("list_channels"), names.join());
  const text = `from TypeScript over ${label}`;
  const sent = await client.callTool({ name: "send_message_to_slack", arguments: { channel_id: "alerts", text } });
  assert.equal(sent.structuredContent.status, "delivered");
  const refused = await client.callTool({ name: "send_message_to_slack", arguments: { channel_id: "C0PRIVATE", text } });
  assert(refused.isError && refused.content[0].text.includes("C0ALERTS"));
  await client.close();
  console.log(`ok    TypeScript SDK over ${label}`);
}
