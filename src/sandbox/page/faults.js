// Faults: what goes wrong next, for the channel that is open.

import { $, TITLES, channels, get, idOf, platformOf, send, view } from "/sandbox/workspace.js";
import { el } from "/sandbox/markup.js";

export function offerFaults() {
  const platform = platformOf(view.current);
  const kind = $("fault-form").elements.kind;
  for (const option of kind.options) {
    option.hidden = option.disabled = Boolean(option.dataset.only && option.dataset.only !== platform);
  }
  if (kind.selectedOptions[0]?.disabled) kind.value = "rate_limit";
  $("seconds").hidden = !["rate_limit", "slow"].includes(kind.value);
}

export async function loadFaults() {
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

export function setUpFaults() {
  const form = $("fault-form");
  form.elements.kind.addEventListener("change", offerFaults);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = form.elements;
    const fault = { platform: platformOf(view.current), kind: fields.kind.value, times: Number(fields.times.value || 1) };
    if (!fields.everywhere.checked) fault.channel = idOf(view.current);
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
