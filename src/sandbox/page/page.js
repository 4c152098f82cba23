// The page: channels on the left, one channel as people see it on the right, pushed live.

import { loadFaults, offerFaults, setUpFaults } from "/sandbox/faults.js";
import { el } from "/sandbox/markup.js";
import { answered, draw } from "/sandbox/message.js";
import { answer, prepare, setUpSpeaking } from "/sandbox/speak.js";
import { $, TITLES, channels, get, homeOf, messages, platformOf, view } from "/sandbox/workspace.js";


const STANDING = {
  outside: "The bot is not in this channel",
  read_only: "The bot may only read here",
  archived: "Archived",
  not_text: "A forum: posts need a thread",
  moved: "Moved to another ID",
};
/** Older messages stay in the API; the page shows these many. */
const SHOWN = 300;

const unread = new Map();
const nodes = new Map();

// Channels

async function loadChannels() {
  for (const channel of (await get("/sandbox/api/channels")).channels) channels.set(channel.channel, channel);
}

const sign = (channel) => (channel.direct ? "✉" : channel.platform === "telegram" ? "@" : "#");

function drawChannels() {
  const nav = $("channels");
  const focused = document.activeElement?.dataset?.channel;
  const groups = Object.keys(TITLES).map((platform) => {
    const items = [...channels.values()]
      .filter((c) => c.platform === platform && !c.parent)
      .map((c) => {
        const waiting = unread.get(c.channel) ?? 0;
        const shut = c.bot !== "member";
        const note = c.direct ? "direct" : c.allowed ? "agents" : c.private && !shut ? "private" : null;
        const button = el("button",
          { type: "button", "data-channel": c.channel, "aria-current": c.channel === view.current ? "page" : null, class: shut ? "shut" : null },
          el("span", { class: "sign", "aria-hidden": "true" }, sign(c)),
          el("span", { class: "label" }, c.name),
          waiting ? el("span", { class: "count", "aria-label": `${waiting} new` }, String(waiting)) : note ? el("small", {}, note) : null);
        button.addEventListener("click", () => open(c.channel));
        return el("li", {}, button);
      });
    return [el("h3", { id: `group-${platform}` }, TITLES[platform]), el("ul", { "aria-labelledby": `group-${platform}` }, items)];
  });
  nav.replaceChildren(...groups.flat());
  if (focused) nav.querySelector(`[data-channel="${CSS.escape(focused)}"]`)?.focus();
}

async function open(key) {
  view.current = key;
  unread.delete(key);
  answer(null);
  $("notice").textContent = "";
  document.body.classList.remove("menu");
  $("menu").setAttribute("aria-expanded", "false");
  history.replaceState(null, "", `#${key}`);
  const channel = channels.get(key);
  const main = document.querySelector("main");
  main.dataset.platform = channel.platform;
  main.dataset.channel = key;
  $("name").textContent = channel.direct ? `${channel.direct} and the bot` : channel.platform === "telegram" ? channel.name : `#${channel.name}`;
  $("topic").replaceChildren(TITLES[channel.platform], " · ", el("code", {}, channel.id), channel.topic ? ` · ${channel.topic}` : "");
  const standing = $("standing");
  standing.textContent = STANDING[channel.bot] ?? (channel.direct ? "Direct" : channel.allowed ? "Agents may post" : "Not on the allow-list");
  standing.classList.toggle("open", channel.allowed && channel.bot === "member");
  $("fault-platform").textContent = TITLES[channel.platform];
  offerFaults();
  drawChannels();
  nodes.clear();
  // A screen reader hears what arrives, not what was there.
  $("log").setAttribute("aria-busy", "true");
  $("messages").replaceChildren();
  const loaded = (await get(`/sandbox/api/messages?channel=${encodeURIComponent(key)}`)).messages;
  if (view.current !== key) return;
  messages.set(key, loaded);
  drawMessages(true);
  $("log").removeAttribute("aria-busy");
}

// Messages

/** The node of a message; the one there was, unless the message changed. */
function nodeOf(message, fresh) {
  const key = `${message.channel}/${message.id}`;
  const state = JSON.stringify([message, answered(message)?.deleted]);
  const kept = nodes.get(key);
  if (kept?.state === state) return kept;
  const made = { state, node: draw(message, fresh && !kept), thread: kept?.thread };
  nodes.set(key, made);
  if (kept) {
    // In its place, and the keyboard stays where it was.
    const focused = kept.node.contains(document.activeElement) && document.activeElement.dataset.button;
    kept.node.replaceWith(made.node);
    if (focused) made.node.querySelector(`[data-button="${CSS.escape(focused)}"]`)?.focus();
  }
  return made;
}

/** Makes the list's children these, moving as few as possible, so that a screen reader hears only the new one. */
function arrange(list, children) {
  children.forEach((child, at) => {
    if (list.children[at] !== child) list.insertBefore(child, list.children[at] ?? null);
  });
  while (list.children.length > children.length) list.lastElementChild.remove();
}

/** A thread's messages under what it belongs to, and a way to talk there. */
function drawThread(made, thread, title, inside, first) {
  if (!made.thread) {
    const talk = el("button", { type: "button", class: "quiet", "data-act": "reply-in-thread", "data-thread": thread }, "Reply in thread");
    talk.addEventListener("click", () => answer(made.last, thread));
    made.thread = el("div", { class: "thread", "data-thread": thread }, el("ol"), talk);
  }
  made.last = inside.at(-1);
  made.thread.dataset.title = title;
  arrange(made.thread.firstElementChild, inside.map((reply) => nodeOf(reply, !first).node));
  if (made.thread.parentNode !== made.node.lastElementChild) made.node.lastElementChild.append(made.thread);
}

/** A forum's topic, which no message stands for. */
function topicOf(topic) {
  const key = `topic/${view.current}/${topic}`;
  if (!nodes.has(key)) nodes.set(key, { node: el("li", { class: "topic" }, el("h3", {}, `Topic ${topic}`), el("div")) });
  return nodes.get(key);
}

function drawMessages(first = false) {
  const all = messages.get(view.current) ?? [];
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  const { platform, forum } = channels.get(view.current);
  const shown = all.slice(-SHOWN);
  const heads = new Set(shown.map((m) => m.id));
  const top = [];
  const replies = new Map();
  for (const message of shown) {
    const inside = message.thread && (forum || (platform !== "telegram" && heads.has(message.thread)));
    if (!inside) {
      top.push({ message });
      continue;
    }
    if (forum && !replies.has(message.thread)) top.push({ topic: message.thread });
    replies.set(message.thread, [...(replies.get(message.thread) ?? []), message]);
  }
  arrange($("messages"), top.map(({ message, topic }) => {
    const made = topic ? topicOf(topic) : nodeOf(message, !first);
    const thread = topic ?? message.id;
    const inside = (topic || !forum) && replies.get(thread);
    if (inside) {
      const count = `${inside.length} ${topic ? (inside.length === 1 ? "message" : "messages") : inside.length === 1 ? "reply" : "replies"}`;
      const name = channels.get(`discord:${thread}`)?.name;
      drawThread(made, thread, name ? `Thread “${name}” · ${count}` : count, inside, first);
    }
    return made.node;
  }));
  drawEmpty(all.length === 0);
  prepare();
  if (first || atEnd) scroll.scrollTop = scroll.scrollHeight;
}

function drawEmpty(empty) {
  const box = $("empty");
  box.hidden = !empty;
  if (!empty) return box.replaceChildren();
  const channel = channels.get(view.current);
  if (channel.direct) {
    return box.replaceChildren(
      el("h3", {}, "Nothing here yet"),
      el("p", {}, `Only ${channel.direct} and the bot are here. Say something below.`));
  }
  if (!channel.allowed) {
    return box.replaceChildren(
      el("h3", {}, "Agents cannot post here"),
      el("p", {}, "The channel is not on the allow-list, so Herald refuses before the platform is asked. If a message of an agent ever shows up here, something is wrong."));
  }
  const field = { slack: "channel_id", discord: "channel_id", telegram: "chat_id" }[channel.platform];
  const call = {
    jsonrpc: "2.0", id: 1, method: "tools/call",
    params: { name: `send_message_to_${channel.platform}`, arguments: { [field]: channel.id, text: "**Hello** from an agent" } },
  };
  const command = [
    `curl ${location.origin}/mcp \\`,
    "  -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \\",
    `  -d '${JSON.stringify(call)}'`,
  ].join("\n");
  const copy = el("button", { type: "button", class: "quiet" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Select and copy";
    }
  });
  box.replaceChildren(
    el("h3", {}, "Nothing here yet"),
    el("p", {}, "Send the first message the way an agent does, by calling Herald’s tool. It shows up here at once."),
    el("div", { class: "command" }, el("pre", { tabindex: "0" }, command), copy));
}

// Live

function keep(message) {
  const home = homeOf(message);
  const list = messages.get(home);
  if (!list) return;
  const at = list.findIndex((m) => m.id === message.id && m.channel === message.channel);
  if (at >= 0) list[at] = message;
  else list.push(message);
}

async function happened(event) {
  if (event.type === "faults") return loadFaults();
  const { message } = event;
  if (!channels.has(message.channel)) await loadChannels();
  keep(message);
  const home = homeOf(message);
  if (home === view.current) drawMessages();
  else if (event.type === "message") {
    unread.set(home, (unread.get(home) ?? 0) + 1);
    drawChannels();
  }
}

function listen() {
  const source = new EventSource("/sandbox/api/events");
  const live = (on) => {
    $("live").classList.toggle("live", on);
    $("live-text").textContent = on ? "live" : "reconnecting";
  };
  source.addEventListener("open", () => {
    live(true);
    // What happened before the line was up is in the API.
    reload();
  });
  source.addEventListener("error", () => live(false));
  let queue = Promise.resolve();
  source.addEventListener("update", (event) => {
    queue = queue.then(() => happened(JSON.parse(event.data))).catch(console.error);
  });
  source.addEventListener("reload", reload);
}

async function reload() {
  await loadChannels();
  messages.clear();
  await open(channels.has(view.current) ? view.current : [...channels.keys()][0]);
  await loadFaults();
}

function setUpMenu() {
  $("menu").addEventListener("click", () => {
    const open = document.body.classList.toggle("menu");
    $("menu").setAttribute("aria-expanded", String(open));
    if (open) $("channels").querySelector("[aria-current]")?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !document.body.classList.contains("menu")) return;
    $("menu").click();
    $("menu").focus();
  });
}

await loadChannels();
await setUpSpeaking();
setUpFaults();
setUpMenu();
const wanted = decodeURIComponent(location.hash.slice(1));
await open(channels.has(wanted) ? wanted : "slack:C0ALERTS");
await loadFaults();
listen();
