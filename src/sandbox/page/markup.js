// From what a bot sent to what people see: Slack's Markdown and mrkdwn, Discord's Markdown, Telegram's HTML.
// Messages are hostile. Everything here makes DOM nodes from text; no text ever becomes markup.

/** A node with attributes and children; strings become text nodes. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** A link, if it leads to the web or to a mailbox; otherwise its text alone. */
function link(url, children) {
  let safe = null;
  try {
    const parsed = new URL(url);
    if (["http:", "https:", "mailto:"].includes(parsed.protocol)) safe = parsed.href;
  } catch { /* no URL, no link */ }
  if (!safe) return el("span", {}, children);
  return el("a", { href: safe, rel: "noreferrer noopener nofollow", target: "_blank", title: safe }, children);
}

/** Whom an ID of the workspace means: the bot, or somebody whom the page offers. */
const NAMES = new Map([["U0HERALD", "herald"], ["500000000000000001", "herald"]]);
["alice", "bob", "mallory"].forEach((name, at) => NAMES.set(`U0${name.toUpperCase()}`, name).set(`30000000000000000${at + 1}`, name));
const nameOf = (id) => (NAMES.has(id) ? `@${NAMES.get(id)}` : undefined);

// Inline markup: for each first character, patterns that are tried where it stands.

function inline(text, rules) {
  const out = [];
  let plain = "";
  for (let at = 0; at < text.length;) {
    let hit = null;
    for (const [pattern, make] of rules[text[at]] ?? []) {
      pattern.lastIndex = at;
      const match = pattern.exec(text);
      const node = match && make(match, rules, text, at);
      if (node !== null && node !== undefined) {
        hit = [match[0].length, node];
        break;
      }
    }
    if (!hit) {
      plain += text[at++];
      continue;
    }
    if (typeof hit[1] === "string") plain += hit[1];
    else {
      if (plain) out.push(plain);
      plain = "";
      out.push(hit[1]);
    }
    at += hit[0];
  }
  if (plain) out.push(plain);
  return out;
}

const wrap = (tag, attributes) => (m, rules) => el(tag, attributes, inline(m[1], rules));
const wordBefore = (text, at) => at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1]);
const code = [/(`+)(?!`)([\s\S]*?[^`])\1(?!`)/y, (m) => el("code", {}, m[2].replace(/^ (.*[^ ].*) $/s, "$1"))];
const escape = [/\\([!-/:-@[-`{-~])/y, (m) => m[1]];
const named = [
  [/!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+"[^"]*")?\s*\)/y,
    (m, rules) => link(m[2] ?? m[3], inline(m[1] || m[2] || m[3], rules))],
];
const bare = [/https?:\/\/[^\s<>"`]*[^\s<>"`.,:;!?'*_~)\]]/y, (m, _, text, at) => (wordBefore(text, at) ? null : link(m[0], m[0]))];
const underscore = [/_(?=[^\s_])((?:[^_\\]|\\.|__[^_]+__)*[^\s_])_(?![\p{L}\p{N}_])/uy, (m, rules, text, at) => (wordBefore(text, at) ? null : el("em", {}, inline(m[1], rules)))];
const stars = [
  [/\*\*\*(?=\S)((?:[^*\\]|\\.)*[^\s*])\*\*\*/y, (m, rules) => el("strong", {}, el("em", {}, inline(m[1], rules)))],
  [/\*\*(?=\S)((?:[^*\\]|\\.|\*(?!\*))*?\S)\*\*(?!\*)/y, wrap("strong")],
  [/\*(?=[^\s*])((?:[^*\\]|\\.|\*\*(?:[^*]|\*(?!\*))+\*\*)*[^\s*]|[^\s*])\*(?!\*)/y, wrap("em")],
];
const strike = [/~~(?=\S)([\s\S]*?\S)~~/y, wrap("del")];

const slackAngles = [
  [/<!(channel|here|everyone)(?:\|[^<>]*)?>/y, (m) => el("span", { class: "mention all" }, `@${m[1]}`)],
  [/<!date\^[^|<>]*\|([^<>]*)>/y, (m) => m[1]],
  [/<([@#])([A-Z0-9]+)(?:\|([^<>]*))?>/y, (m) => el("span", { class: "mention" }, nameOf(m[2]) ?? m[1] + (m[3] || m[2]))],
  [/<!subteam\^([A-Z0-9]+)(?:\|([^<>]*))?>/y, (m) => el("span", { class: "mention" }, m[2] || `@${m[1]}`)],
  [/<((?:https?:|mailto:)[^<>|\s]+)(?:\|([^<>]*))?>/y, (m) => link(m[1], m[2] || m[1])],
];
const slackEntities = [[/&(amp|lt|gt);/y, (m) => ({ amp: "&", lt: "<", gt: ">" })[m[1]]]];
const SLACK_MARKDOWN = {
  "\\": [escape], "`": [code], "[": named, "!": named, "*": stars,
  _: [[/__(?=\S)([\s\S]*?\S)__(?!_)/y, wrap("strong")], underscore],
  "~": [strike], h: [bare], "<": slackAngles, "&": slackEntities,
};
const mrkdwn = (sign, tag) => [
  new RegExp(`[${sign}](?=\\S)([^\\n${sign}]*[^\\s${sign}])[${sign}](?![\\p{L}\\p{N}])`, "uy"),
  (m, rules, text, at) => (wordBefore(text, at) ? null : el(tag, {}, inline(m[1], rules))),
];
const SLACK_MRKDWN = {
  "`": [[/```\n?([\s\S]+?)\n?```/y, (m) => el("pre", {}, decodeSlack(m[1]))], [/`([^`\n]+)`/y, (m) => el("code", {}, decodeSlack(m[1]))]],
  "*": [mrkdwn("*", "strong")], _: [mrkdwn("_", "em")], "~": [mrkdwn("~", "del")], h: [bare], "<": slackAngles, "&": slackEntities,
};
const DISCORD = {
  "\\": [escape], "`": [code], "[": named, "*": stars,
  _: [[/__(?=\S)([\s\S]*?\S)__(?!_)/y, wrap("u")], underscore],
  "~": [strike], h: [bare],
  "|": [[/\|\|([\s\S]+?)\|\|/y, wrap("span", { class: "spoiler", tabindex: "0" })]],
  "@": [[/@(everyone|here)(?!\w)/y, (m) => el("span", { class: "mention" }, m[0])]],
  "<": [
    [/<(@!?|@&|#)(\d+)>/y, (m) => el("span", { class: "mention" }, nameOf(m[2]) ?? m[1].replace(/[!&]/, "") + m[2])],
    [/<(https?:\/\/[^<>\s]+)>/y, (m) => link(m[1], m[1])],
  ],
};

const decodeSlack = (text) => text.replace(/&(amp|lt|gt);/g, (_, name) => ({ amp: "&", lt: "<", gt: ">" })[name]);

// Blocks of Markdown.

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const DELIMITER = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/** Markdown as nodes. `flavour`: which block markup the platform knows. */
function blocks(text, flavour, depth = 0) {
  const lines = text.split("\n");
  const out = [];
  let paragraph = [];
  const flush = () => {
    const said = paragraph.join("\n").trim();
    if (said) out.push(el("p", {}, inline(said, flavour.inline)));
    paragraph = [];
  };
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    const fence = FENCE.exec(line);
    if (fence) {
      flush();
      const inside = [];
      const end = new RegExp(`^\\s*\\${fence[2][0]}{${fence[2].length},}\\s*$`);
      for (i++; i < lines.length && !end.test(lines[i]); i++) inside.push(lines[i]);
      const body = flavour.entities ? decodeSlack(inside.join("\n")) : inside.join("\n");
      out.push(el("pre", { "data-language": fence[3] || null, tabindex: "0" }, el("code", {}, body)));
      continue;
    }
    const heading = HEADING.exec(line);
    if (heading && heading[1].length <= flavour.headings) {
      flush();
      out.push(el(`h${Math.min(heading[1].length + 2, 6)}`, {}, inline(heading[2], flavour.inline)));
      continue;
    }
    const small = flavour.small && /^-# (.*)$/.exec(line);
    if (small) {
      flush();
      out.push(el("p", { class: "small" }, inline(small[1], flavour.inline)));
      continue;
    }
    if (flavour.rules && RULE.test(line)) {
      flush();
      out.push(el("hr"));
      continue;
    }
    if (QUOTE.test(line) && depth < 8) {
      flush();
      const inside = [];
      for (; i < lines.length && QUOTE.test(lines[i]); i++) inside.push(QUOTE.exec(lines[i])[1]);
      i--;
      out.push(el("blockquote", {}, blocks(inside.join("\n"), flavour, depth + 1)));
      continue;
    }
    if (flavour.tables && line.includes("|") && DELIMITER.test(lines[i + 1] ?? "") && lines[i + 1].includes("-")) {
      flush();
      const rows = [];
      const alignment = cells(lines[i + 1]).map((c) => (c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : null));
      const head = cells(line);
      for (i += 2; i < lines.length && lines[i].includes("|") && lines[i].trim(); i++) rows.push(cells(lines[i]));
      i--;
      const row = (tag, given) => el("tr", {}, head.map((_, at) => el(tag, { class: alignment[at] }, inline(given[at] ?? "", flavour.inline))));
      out.push(el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, rows.map((r) => row("td", r))))));
      continue;
    }
    if (ITEM.test(line) && depth < 8) {
      flush();
      const inside = [];
      for (; i < lines.length; i++) {
        const more = ITEM.test(lines[i]) || (/^\s{2,}\S/.test(lines[i]) && inside.length)
          || (!lines[i].trim() && (ITEM.test(lines[i + 1] ?? "") || /^\s{2,}\S/.test(lines[i + 1] ?? "")));
        if (!more) break;
        inside.push(lines[i]);
      }
      i--;
      out.push(...lists(inside, flavour, depth + 1));
      continue;
    }
    if (!line.trim()) flush();
    else paragraph.push(line.replace(/ {2,}$/, ""));
  }
  flush();
  return out;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** The lists in these lines: a change from bullets to numbers starts another one. */
function lists(lines, flavour, depth) {
  const out = [];
  let list = null;
  let kind = null;
  let item = null;
  let indent = 0;
  const finish = () => {
    if (!item) return;
    let [first, ...rest] = item.lines;
    const task = flavour.tasks && /^\[([ xX])\]\s+(.*)$/.exec(first);
    const li = el("li", task ? { class: "task" } : {});
    if (task) {
      const box = el("input", { type: "checkbox", disabled: true, "aria-label": task[1] === " " ? "open" : "done" });
      box.checked = task[1] !== " ";
      li.append(box);
      first = task[2];
    }
    const fence = FENCE.test(first);
    if (!fence) li.append(...inline(first, flavour.inline));
    const margin = Math.min(...rest.filter((l) => l.trim()).map((l) => /^\s*/.exec(l)[0].length), Infinity);
    const inner = rest.map((l) => l.slice(Number.isFinite(margin) ? margin : 0));
    if (fence) inner.unshift(first);
    li.append(...blocks(inner.join("\n"), flavour, depth));
    list.append(li);
    item = null;
  };
  for (const line of lines) {
    const match = ITEM.exec(line);
    if (match && (!item || match[1].length <= indent + 1)) {
      finish();
      indent = match[1].length;
      const numbered = /\d/.test(match[2]);
      const now = numbered ? "ol" : "ul";
      if (!list || kind !== now) {
        list = el(now, numbered && parseInt(match[2], 10) !== 1 ? { start: parseInt(match[2], 10) } : {});
        kind = now;
        out.push(list);
      }
      item = { lines: [match[3]] };
    } else if (item) item.lines.push(line);
  }
  finish();
  return out;
}

const SLACK = { inline: SLACK_MARKDOWN, headings: 6, rules: true, tables: true, tasks: true, entities: true };
const DISCORD_BLOCKS = { inline: DISCORD, headings: 3, small: true };

/** Slack's older markup: lines and quotes, no headings or lists. */
function mrkdwnBlocks(text) {
  const out = [];
  const pieces = text.split(/(^(?:&gt;|>).*(?:\n(?:&gt;|>).*)*)/m);
  for (const piece of pieces) {
    if (!piece.trim()) continue;
    if (/^(?:&gt;|>)/.test(piece)) {
      const inner = piece.replace(/^(?:&gt;|>) ?/gm, "");
      out.push(el("blockquote", {}, el("p", {}, inline(inner, SLACK_MRKDWN))));
    } else out.push(el("p", {}, inline(piece.replace(/^\n|\n$/g, ""), SLACK_MRKDWN)));
  }
  return out;
}

function textObject(object) {
  if (!object) return [];
  if (object.type === "mrkdwn") return mrkdwnBlocks(String(object.text ?? ""));
  return [el("p", {}, String(object.text ?? ""))];
}

function slackBlock(block) {
  switch (block.type) {
    case "markdown": return blocks(String(block.text ?? ""), SLACK);
    case "header": return [el("h3", {}, String(block.text?.text ?? ""))];
    case "divider": return [el("hr")];
    case "section": return [...textObject(block.text), ...(block.fields ?? []).flatMap(textObject)];
    case "context": return [el("div", { class: "context" }, (block.elements ?? []).flatMap(textObject))];
    // Its buttons stand under the message, where they can be pressed.
    case "actions": return [];
    default: return [el("p", { class: "small" }, `[${block.type}]`)];
  }
}

function slack(message) {
  const payload = message.payload ?? {};
  if (Array.isArray(payload.blocks) && payload.blocks.length) return payload.blocks.flatMap(slackBlock);
  if (payload.markdown_text) return blocks(payload.markdown_text, SLACK);
  return mrkdwnBlocks(message.text);
}

function discord(message) {
  const out = blocks(message.text.trim(), DISCORD_BLOCKS);
  for (const embed of message.payload?.embeds ?? []) {
    out.push(el("div", { class: "embed" },
      embed.title ? el("strong", {}, String(embed.title)) : null,
      embed.description ? blocks(String(embed.description), DISCORD_BLOCKS) : null,
      (embed.fields ?? []).map((f) => el("p", {}, el("strong", {}, String(f.name)), `\n${f.value}`))));
  }
  return out;
}

// Telegram.

const TELEGRAM_TAGS = {
  b: "strong", strong: "strong", i: "em", em: "em", u: "u", ins: "u", s: "del", strike: "del", del: "del",
  code: "code", pre: "pre", blockquote: "blockquote",
};

/** The document is inert: nothing in it runs or loads. Only known tags are made anew. */
function telegramHtml(node) {
  return [...node.childNodes].flatMap((child) => {
    if (child.nodeType === Node.TEXT_NODE) return [child.data];
    if (child.nodeType !== Node.ELEMENT_NODE) return [];
    const name = child.localName;
    const inside = telegramHtml(child);
    if (name === "a") return [link(child.getAttribute("href") ?? "", inside)];
    if (name === "tg-spoiler" || name === "span") return [el("span", { class: "spoiler", tabindex: "0" }, inside)];
    if (name === "code" && child.parentNode.localName === "pre") return inside;
    return TELEGRAM_TAGS[name] ? [el(TELEGRAM_TAGS[name], {}, inside)] : inside;
  });
}

const TELEGRAM_ENTITIES = {
  bold: "strong", italic: "em", underline: "u", strikethrough: "del", code: "code", pre: "pre",
  blockquote: "blockquote", expandable_blockquote: "blockquote",
};

function telegramEntities(text, entities) {
  const edges = new Set([0, text.length]);
  for (const e of entities) edges.add(e.offset).add(e.offset + e.length);
  const sorted = [...edges].filter((at) => at <= text.length).sort((a, b) => a - b);
  return sorted.slice(1).map((end, index) => {
    const start = sorted[index];
    const over = entities.filter((e) => e.offset <= start && e.offset + e.length >= end);
    return over.reduce((node, e) => {
      if (e.type === "text_link") return link(e.url, [node]);
      return TELEGRAM_ENTITIES[e.type] ? el(TELEGRAM_ENTITIES[e.type], {}, node) : node;
    }, text.slice(start, end));
  });
}

function telegram(message) {
  const payload = message.payload ?? {};
  if (/^html$/i.test(payload.parse_mode ?? "")) {
    // The HTML parser drops a newline after <pre>; Telegram keeps it.
    const html = message.text.replace(/<pre>\n/gi, "<pre>\n\n");
    const page = new DOMParser().parseFromString(`<!DOCTYPE html><body>${html}`, "text/html");
    return [el("p", {}, telegramHtml(page.body))].map(unnest);
  }
  if (Array.isArray(payload.entities)) return [unnest(el("p", {}, telegramEntities(message.text, payload.entities)))];
  return [el("p", {}, inline(message.text, { h: [bare] }))];
}

/** Blocks cannot stand in a paragraph, and the newlines around them are theirs. */
function unnest(paragraph) {
  const box = el("div");
  let current = el("p");
  const finish = () => {
    if (current.textContent.trim()) box.append(current);
    current = el("p");
  };
  let afterBlock = false;
  for (const node of [...paragraph.childNodes]) {
    if (["PRE", "BLOCKQUOTE"].includes(node.nodeName)) {
      if (current.lastChild?.nodeType === Node.TEXT_NODE) current.lastChild.data = current.lastChild.data.replace(/\n$/, "");
      finish();
      box.append(node);
      afterBlock = true;
    } else {
      if (afterBlock && node.nodeType === Node.TEXT_NODE) node.data = node.data.replace(/^\n/, "");
      afterBlock = false;
      current.append(node);
    }
  }
  finish();
  return box;
}

/** What people see of a message on its platform. */
export function render(platform, message) {
  const make = { slack, discord, telegram }[platform];
  try {
    return make(message);
  } catch {
    return [el("p", {}, message.text)];
  }
}
