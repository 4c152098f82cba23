// What the page knows of the workspace, and how it asks for more.

export const $ = (id) => document.getElementById(id);
export const TITLES = { slack: "Slack", discord: "Discord", telegram: "Telegram" };

/** Channels by key, and each one's messages in the order of arrival. */
export const channels = new Map();
export const messages = new Map();
/** The channel that is open. */
export const view = { current: null };
/** How a platform writes the bot's name when somebody mentions it. */
export const MENTIONS = { slack: "<@U0HERALD>", discord: "<@500000000000000001>", telegram: "@herald_sandbox_bot" };

export const platformOf = (key) => key.split(":", 1)[0];
export const idOf = (key) => key.slice(key.indexOf(":") + 1);
/** The channel on the left in which a message is shown: a Discord thread's parent. */
export const homeOf = (message) => channels.get(message.channel)?.parent ?? message.channel;

export async function get(path) {
  const response = await fetch(path);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

export async function send(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}
