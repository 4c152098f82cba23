// Speaking as a person: who, where, what, and what is attached.

import { el } from "/sandbox/markup.js";
import { $, MENTIONS, channels, get, messages, platformOf, send, view } from "/sandbox/workspace.js";

/** Larger files belong elsewhere; the API takes about 2 MB in all. */
const MOST_BYTES = 1_000_000;

let answering = null;
let attached = [];

/** Who speaks and presses: in a direct conversation, the one it is with. */
export function me() {
  const form = $("speak").elements;
  const direct = channels.get(view.current)?.direct;
  const typed = form.person.value === "" ? form.author.value.trim().toLowerCase() : form.person.value;
  return direct ?? (typed || "alice");
}

/** The next message answers this one, or goes into its thread; `null`: it stands for itself. */
export function answer(message, thread) {
  const slack = message && platformOf(message.channel) === "slack";
  const inside = thread ?? message?.thread ?? (slack ? message.id : undefined);
  // Slack knows no answer but a thread.
  answering = message && { reply_to: slack || thread ? undefined : message.id, thread: inside };
  const line = $("answering");
  line.hidden = !message;
  if (message) {
    line.firstElementChild.textContent = answering.reply_to ? `Replying to ${message.author}` : `In the thread with ${message.author}`;
    $("speak").elements.text.focus();
  }
}

function placeOf() {
  if (answering) return answering;
  const topic = $("speak").elements.topic.value;
  return channels.get(view.current)?.forum && topic ? { thread: topic } : {};
}

/** What changes with the channel. */
export function prepare() {
  const channel = channels.get(view.current);
  const form = $("speak").elements;
  const direct = channel.direct;
  form.person.disabled = form.author.disabled = Boolean(direct);
  if (direct) form.person.value = direct;
  offerName();
  $("topics").hidden = !channel.forum;
  if (channel.forum) {
    const known = new Set(["5", ...(messages.get(view.current) ?? []).map((m) => m.thread).filter(Boolean)]);
    const chosen = form.topic.value;
    form.topic.replaceChildren(el("option", { value: "" }, "General"), ...[...known].map((topic) => el("option", { value: topic }, `Topic ${topic}`)));
    form.topic.value = known.has(chosen) ? chosen : "";
  }
  const commands = channel.platform === "slack" ? "/mykagent hello" : channel.platform === "discord" ? "/ask hello" : "/status";
  form.text.placeholder = direct ? "Message to the bot" : `Message · @herald · ${commands}`;
}

function offerName() {
  const form = $("speak").elements;
  form.author.hidden = form.person.value !== "";
}

/** As people type it, and as the platform's app sends it. */
const mentioned = (text, platform) => text.replace(/(^|\s)@herald(?![\w_])/gi, (_, before) => before + MENTIONS[platform]);

function drawAttached() {
  $("attached").replaceChildren(...attached.map((file, at) => {
    const remove = el("button", { type: "button", class: "quiet", "aria-label": `Remove ${file.name}` }, "×");
    remove.addEventListener("click", () => {
      attached.splice(at, 1);
      drawAttached();
    });
    return el("li", {}, file.name, " ", remove);
  }));
  $("attached").hidden = !attached.length;
}

async function attach(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than 1 MB`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  attached.push({ name: file.name, mime: file.type || "application/octet-stream", base64: btoa(binary) });
}

export async function setUpSpeaking() {
  const form = $("speak");
  const { text, person, author, file } = form.elements;
  const wrong = form.querySelector(".error");
  const { people, scripts } = await get("/sandbox/api/hints");
  person.replaceChildren(...people.map((name) => el("option", { value: name }, name)), el("option", { value: "" }, "somebody else…"));
  person.addEventListener("change", () => {
    offerName();
    if (person.value === "") author.focus();
  });
  $("hints").append(...scripts.map(({ say, does }) => {
    const chip = el("button", { type: "button", class: "chip", "data-hint": say, title: does }, say);
    chip.addEventListener("click", () => {
      const channel = channels.get(view.current);
      const follows = channel.direct || answering;
      text.value = follows ? say : `@herald ${say}`;
      text.focus();
    });
    return el("li", {}, chip, " ", el("span", {}, does));
  }));
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
  $("attach").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    wrong.textContent = "";
    try {
      for (const one of file.files) await attach(one);
    } catch (error) {
      wrong.textContent = error.message;
    }
    file.value = "";
    drawAttached();
  });
  $("answering").lastElementChild.addEventListener("click", () => answer(null));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = mentioned(text.value, platformOf(view.current));
    if (!said.trim() && !attached.length) return text.focus();
    const place = placeOf();
    try {
      const heard = await send("POST", "/sandbox/api/messages", { channel: view.current, text: said, author: me(), files: attached, ...place });
      $("notice").textContent = heard.command ? `${me()} used ${heard.command}: the bot hears it, nobody sees it` : "";
      text.value = "";
      attached = [];
      drawAttached();
      grow();
      wrong.textContent = "";
      // A talk in a thread goes on there.
      if (answering?.thread) delete answering.reply_to;
      else answer(null);
      if (!place.thread) $("scroll").scrollTop = $("scroll").scrollHeight;
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
}
