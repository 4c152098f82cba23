// The page: channels on the left, one channel as people see it on the right, pushed live.

import { el, render } from "/sandbox/markup.js";

const $ = (id) => document.getElementById(id);
const TITLES = { slack: "Slack", discord: "Discord", telegram: "Telegram" };
const STANDING = {
  outside: "The bot is not in this channel",
  read_only: "The bot may only read here",
  archived: "Archived",
  not_text: "A forum: posts need a thread",
  moved: "Moved to another ID",
};
/** Older messages stay in the API; the page shows these many. */
const SHOWN = 300;

const channels = new Map();
const messages = new Map();
const unread = new Map();
const nodes = new Map();
let current = null;
let answering = null;

const platformOf = (key) => key.split(":", 1)[0];
const idOf = (key) => key.slice(key.indexOf(":") + 1);
/** The channel on the left in which a message is shown: a Discord thread's parent. */
const homeOf = (message) => channels.get(message.channel)?.parent ?? message.channel;

async function get(path) {
  const response = await fetch(path);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

async function send(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

// Channels

async function loadChannels() {
  for (const channel of (await get("/sandbox/api/channels")).channels) channels.set(channel.channel, channel);
}

const sign = (channel) => (channel.platform === "telegram" ? "@" : "#");

function drawChannels() {
  const nav = $("channels");
  const focused = document.activeElement?.dataset?.channel;
  const groups = Object.keys(TITLES).map((platform) => {
    const items = [...channels.values()]
      .filter((c) => c.platform === platform && !c.parent)
      .map((c) => {
        const waiting = unread.get(c.channel) ?? 0;
        const shut = c.bot !== "member";
        const note = c.allowed ? "agents" : c.private && !shut ? "private" : null;
        const button = el("button",
          { type: "button", "data-channel": c.channel, "aria-current": c.channel === current ? "page" : null, class: shut ? "shut" : null },
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
  current = key;
  unread.delete(key);
  answer(null);
  document.body.classList.remove("menu");
  $("menu").setAttribute("aria-expanded", "false");
  history.replaceState(null, "", `#${key}`);
  const channel = channels.get(key);
  const main = document.querySelector("main");
  main.dataset.platform = channel.platform;
  $("name").textContent = channel.platform === "telegram" ? channel.name : `#${channel.name}`;
  $("topic").replaceChildren(TITLES[channel.platform], " · ", el("code", {}, channel.id), channel.topic ? ` · ${channel.topic}` : "");
  const standing = $("standing");
  standing.textContent = STANDING[channel.bot] ?? (channel.allowed ? "Agents may post" : "Not on the allow-list");
  standing.classList.toggle("open", channel.allowed && channel.bot === "member");
  $("fault-platform").textContent = TITLES[channel.platform];
  offerFaults();
  drawChannels();
  nodes.clear();
  // A screen reader hears what arrives, not what was there.
  $("log").setAttribute("aria-busy", "true");
  $("messages").replaceChildren();
  const loaded = (await get(`/sandbox/api/messages?channel=${encodeURIComponent(key)}`)).messages;
  if (current !== key) return;
  messages.set(key, loaded);
  drawMessages(true);
  $("log").removeAttribute("aria-busy");
}

// Messages

function timeOf(message) {
  const at = new Date(message.received_at);
  const today = at.toDateString() === new Date().toDateString();
  const options = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, new Intl.DateTimeFormat(undefined, options).format(at));
}

function quoted(message) {
  const answered = messages.get(current)?.find((m) => m.id === message.reply_to);
  const box = el("div");
  if (answered && !answered.deleted) box.append(...render(platformOf(current), answered));
  // In one line, the blocks' words must not run together.
  for (const block of box.querySelectorAll("p, li, h3, h4, h5, h6, pre, th, td, blockquote")) block.append(" ");
  const text = answered?.deleted ? "a deleted message" : box.textContent.slice(0, 140) || "a message";
  return el("p", { class: "answers" }, "↩ ", answered ? el("b", {}, answered.author) : null, answered ? " " : null, text);
}

function draw(message, fresh) {
  const platform = platformOf(message.channel);
  const marks = [];
  if (message.bot) marks.push(el("span", { class: "badge" }, platform === "telegram" ? "bot" : "APP"));
  marks.push(timeOf(message));
  if (message.edited) marks.push(el("span", { class: "mark" }, "(edited)"));
  if (message.deleted) marks.push(el("span", { class: "mark" }, "(deleted)"));
  if (platform === "telegram" && message.thread) marks.push(el("span", { class: "mark" }, `topic ${message.thread}`));
  if (platform === "slack" && message.payload?.reply_broadcast) marks.push(el("span", { class: "mark" }, "also sent to the channel"));
  if (message.pinged_everyone) marks.push(el("span", { class: "mark ping" }, "notified everyone"));

  const tools = el("span", { class: "tools" });
  if (!message.deleted) {
    const reply = el("button", { type: "button", "aria-label": `Reply to ${message.author}` }, "Reply");
    reply.addEventListener("click", () => answer(message));
    tools.append(reply);
  }
  const content = el("div", {},
    message.reply_to ? quoted(message) : null,
    el("div", { class: "meta" }, el("b", {}, message.author), marks, tools),
    el("div", { class: "body" }, render(platform, message)));
  if (message.payload) {
    const raw = el("pre", { class: "payload", tabindex: "0" }, JSON.stringify(message.payload, null, 2));
    raw.hidden = true;
    const toggle = el("button", { type: "button", "aria-expanded": "false" }, "Payload");
    toggle.addEventListener("click", () => {
      raw.hidden = !raw.hidden;
      toggle.setAttribute("aria-expanded", String(!raw.hidden));
    });
    tools.append(toggle);
    content.append(raw);
  }
  const classes = ["message", message.bot && "bot", message.deleted && "deleted", fresh && "new"].filter(Boolean);
  return el("li", { class: classes.join(" ") },
    el("span", { class: "avatar", "aria-hidden": "true" }, [...message.author][0]?.toUpperCase() ?? "?"), content);
}

/** The node of a message; the one there was, unless the message changed. */
function nodeOf(message, fresh) {
  const key = `${message.channel}/${message.id}`;
  const state = JSON.stringify([message, message.reply_to && messages.get(current)?.find((m) => m.id === message.reply_to)?.deleted]);
  const kept = nodes.get(key);
  if (kept?.state === state) return kept;
  const made = { state, node: draw(message, fresh), thread: kept?.thread ?? el("ol", { class: "thread" }) };
  nodes.set(key, made);
  return made;
}

/** Makes the list's children these, moving as few as possible, so that a screen reader hears only the new one. */
function arrange(list, children) {
  children.forEach((child, at) => {
    if (list.children[at] !== child) list.insertBefore(child, list.children[at] ?? null);
  });
  while (list.children.length > children.length) list.lastElementChild.remove();
}

function drawMessages(first = false) {
  const all = messages.get(current) ?? [];
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  const threaded = platformOf(current) !== "telegram";
  const shown = all.slice(-SHOWN);
  const heads = new Set(shown.map((m) => m.id));
  const top = [];
  const replies = new Map();
  for (const message of shown) {
    if (threaded && message.thread && heads.has(message.thread)) {
      replies.set(message.thread, [...(replies.get(message.thread) ?? []), message]);
    } else top.push(message);
  }
  arrange($("messages"), top.map((message) => {
    const made = nodeOf(message, !first);
    const inside = replies.get(message.id) ?? [];
    if (inside.length) {
      const count = `${inside.length} ${inside.length === 1 ? "reply" : "replies"}`;
      const name = channels.get(`discord:${message.id}`)?.name;
      made.thread.dataset.title = name ? `Thread “${name}” · ${count}` : count;
      arrange(made.thread, inside.map((reply) => nodeOf(reply, !first).node));
      if (made.thread.parentNode !== made.node.lastElementChild) made.node.lastElementChild.append(made.thread);
    }
    return made.node;
  }));
  drawEmpty(all.length === 0);
  if (first || atEnd) scroll.scrollTop = scroll.scrollHeight;
}

function drawEmpty(empty) {
  const box = $("empty");
  box.hidden = !empty;
  if (!empty) return box.replaceChildren();
  const channel = channels.get(current);
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
  if (home === current) drawMessages();
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
  await open(channels.has(current) ? current : [...channels.keys()][0]);
  await loadFaults();
}

// Faults

function offerFaults() {
  const platform = platformOf(current);
  const kind = $("fault-form").elements.kind;
  for (const option of kind.options) {
    option.hidden = option.disabled = Boolean(option.dataset.only && option.dataset.only !== platform);
  }
  if (kind.selectedOptions[0]?.disabled) kind.value = "rate_limit";
  $("seconds").hidden = !["rate_limit", "slow"].includes(kind.value);
}

async function loadFaults() {
  const { faults } = await get("/sandbox/api/faults");
  $("fault-list").replaceChildren(...faults.map((fault) => {
    const label = [...$("fault-form").elements.kind.options].find((o) => o.value === fault.kind)?.textContent ?? fault.kind;
    const channel = fault.channel && (channels.get(`${fault.platform}:${fault.channel}`) ?? channels.get(fault.channel));
    const where = fault.channel ? `${TITLES[fault.platform]}, ${channel?.name ?? fault.channel}` : TITLES[fault.platform];
    const times = fault.times === 0 ? "until switched off" : fault.times === 1 ? "once" : `${fault.times} times`;
    return el("li", {}, el("b", {}, label), el("br"), `${where} · ${times}`);
  }));
  $("fault-count").textContent = faults.length;
  $("fault-count").hidden = $("fault-clear").hidden = faults.length === 0;
}

function setUpFaults() {
  const form = $("fault-form");
  form.elements.kind.addEventListener("change", offerFaults);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = form.elements;
    const fault = { platform: platformOf(current), kind: fields.kind.value, times: Number(fields.times.value || 1) };
    if (!fields.everywhere.checked) fault.channel = idOf(current);
    // A missing scope and a revoked token belong to the bot, not to a channel.
    if (["missing_scope", "revoked_token"].includes(fault.kind)) delete fault.channel;
    if (fault.kind === "rate_limit") fault.retry_after = Number(fields.seconds.value || 1);
    if (fault.kind === "slow") fault.millis = Math.round(Number(fields.seconds.value || 1) * 1000);
    try {
      await send("POST", "/sandbox/api/faults", fault);
      $("fault-error").textContent = "";
    } catch (error) {
      $("fault-error").textContent = error.message;
    }
  });
  $("fault-clear").addEventListener("click", () => send("DELETE", "/sandbox/api/faults"));
}

// Speaking

function answer(message) {
  answering = message;
  const line = $("answering");
  line.hidden = !message;
  if (message) {
    line.firstElementChild.textContent = `Replying to ${message.author}`;
    $("speak").elements.text.focus();
  }
}

/** Where an answer goes: into the thread on Slack and in Discord's threads, beside the message elsewhere. */
function placeOf(message) {
  if (!message) return {};
  if (platformOf(message.channel) === "slack") return { thread: message.thread ?? message.id };
  return { reply_to: message.id, thread: message.thread ?? undefined };
}

function setUpSpeaking() {
  const form = $("speak");
  const text = form.elements.text;
  const grow = () => {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight + 2, 144)}px`;
  };
  text.addEventListener("input", grow);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
    if (event.key === "Escape") answer(null);
  });
  $("answering").lastElementChild.addEventListener("click", () => answer(null));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = text.value;
    if (!said.trim()) return text.focus();
    const author = form.elements.author.value.trim() || "alice";
    try {
      await send("POST", "/sandbox/api/messages", { channel: current, text: said, author, ...placeOf(answering) });
      text.value = "";
      grow();
      answer(null);
      form.querySelector(".error").textContent = "";
      $("scroll").scrollTop = $("scroll").scrollHeight;
    } catch (error) {
      form.querySelector(".error").textContent = error.message;
    }
  });
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
setUpFaults();
setUpSpeaking();
setUpMenu();
const wanted = decodeURIComponent(location.hash.slice(1));
await open(channels.has(wanted) ? wanted : "slack:C0ALERTS");
await loadFaults();
listen();
