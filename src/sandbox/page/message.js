// One message as people see it: who, when, what, its files, its buttons.

import { el, render } from "/sandbox/markup.js";
import { answer, me } from "/sandbox/speak.js";
import { messages, platformOf, send, view } from "/sandbox/workspace.js";

function timeOf(message) {
  const at = new Date(message.received_at);
  const today = at.toDateString() === new Date().toDateString();
  const options = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, new Intl.DateTimeFormat(undefined, options).format(at));
}

/** The message that another one answers. */
export const answered = (message) => message.reply_to && messages.get(view.current)?.find((m) => m.id === message.reply_to);

function quoted(message) {
  const first = answered(message);
  const box = el("div");
  if (first && !first.deleted) box.append(...render(platformOf(view.current), first));
  // In one line, the blocks' words must not run together.
  for (const block of box.querySelectorAll("p, li, h3, h4, h5, h6, pre, th, td, blockquote")) block.append(" ");
  const text = first?.deleted ? "a deleted message" : box.textContent.slice(0, 140) || "a message";
  return el("p", { class: "answers" }, "↩ ", first ? el("b", {}, first.author) : null, first ? " " : null, text);
}

function marksOf(message, platform) {
  const marks = [];
  if (message.bot) marks.push(el("span", { class: "badge" }, platform === "telegram" ? "bot" : "APP"));
  marks.push(timeOf(message));
  const mark = (text, more = {}) => marks.push(el("span", { class: "mark", ...more }, text));
  if (message.only_for) mark(`only visible to ${message.only_for}`, { class: "mark only", "data-only-for": message.only_for });
  if (message.edited) mark("(edited)");
  if (message.deleted) mark("(deleted)");
  if (platform === "slack" && message.payload?.reply_broadcast) mark("also sent to the channel");
  if (message.pinged_everyone) mark("notified everyone", { class: "mark ping" });
  else if (message.pings?.length) mark(`notified ${message.pings.join(", ")}`, { class: "mark ping" });
  return marks;
}

function toolsOf(message, content) {
  const tools = el("span", { class: "tools" });
  if (!message.deleted && !message.only_for) {
    const reply = el("button", { type: "button", "data-act": "reply", "aria-label": `Reply to ${message.author}` }, "Reply");
    reply.addEventListener("click", () => answer(message));
    tools.append(reply);
  }
  if (message.payload) {
    const raw = el("pre", { class: "payload", tabindex: "0" }, JSON.stringify(message.payload, null, 2));
    raw.hidden = true;
    const toggle = el("button", { type: "button", "data-act": "payload", "aria-expanded": "false" }, "Payload");
    toggle.addEventListener("click", () => {
      raw.hidden = !raw.hidden;
      toggle.setAttribute("aria-expanded", String(!raw.hidden));
    });
    tools.append(toggle);
    content.append(raw);
  }
  return tools;
}

function filesOf(message) {
  if (!message.files.length) return null;
  return el("ul", { class: "files", "aria-label": "Files" }, message.files.map((file) =>
    el("li", { "data-file": file.name }, el("span", { "aria-hidden": "true" }, "📎 "), el("b", {}, file.name), " ", el("small", {}, file.mime))));
}

/** The buttons that are there now. A press waits for the bot; what the bot does about it comes as an edit. */
function buttonsOf(message) {
  if (message.deleted || !message.buttons.length) return null;
  const wrong = el("p", { class: "error", role: "alert" });
  const rows = message.buttons.map((row) => el("div", { class: "row" }, row.map((button) => {
    const node = el("button", { type: "button", class: `press ${button.style}`, "data-button": button.key }, button.label);
    node.addEventListener("click", async () => {
      node.disabled = true;
      wrong.textContent = "";
      try {
        await send("POST", "/sandbox/api/presses", { channel: message.channel, message: message.id, key: button.key, author: me() });
      } catch (error) {
        wrong.textContent = error.message;
      }
      // Where the bot changes nothing, somebody else may press.
      setTimeout(() => { node.disabled = false; }, 1500);
    });
    return node;
  })));
  return el("div", { class: "buttons", role: "group", "aria-label": "Buttons" }, rows, wrong);
}

export function draw(message, fresh) {
  const platform = platformOf(message.channel);
  const content = el("div");
  const tools = toolsOf(message, content);
  content.prepend(
    ...[
      message.reply_to ? quoted(message) : null,
      el("div", { class: "meta" }, el("div", { class: "by" }, el("b", {}, message.author), marksOf(message, platform)), tools),
      el("div", { class: "body" }, render(platform, message)),
      filesOf(message),
      buttonsOf(message),
    ].filter(Boolean));
  const classes = ["message", message.bot && "bot", message.deleted && "deleted", message.only_for && "ephemeral", fresh && "new"].filter(Boolean);
  return el("li", {
    class: classes.join(" "), "data-message": message.id, "data-in": message.channel, "data-author": message.author,
    "data-bot": String(message.bot), "data-deleted": String(message.deleted),
  },
    el("span", { class: "avatar", "aria-hidden": "true" }, [...message.author][0]?.toUpperCase() ?? "?"), content);
}
