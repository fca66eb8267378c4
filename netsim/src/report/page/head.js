// What all parts of the page share, and its head. The parts are one script, in one block, one after the other.
const record = JSON.parse(document.getElementById("record").textContent);
const $ = (id) => document.getElementById(id);
// All text of the record enters the page as text, never as markup.
const make = (tag, name, ...children) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
};
const draw = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const end = Math.max(record.end, 0.001);
// A little room at both ends, for marks at the very beginning and end.
const [first, last] = [-0.012 * end, 1.02 * end];
const time = (at) => `${at.toFixed(3)} s`;
const plain = (text) => text.replace(/\x1b\[[0-9;?]*[ -\/]*[@-~]/g, "");
const scaled = (value, unit) => {
  for (const [size, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${prefix}${unit}`;
  }
  return `${value.toPrecision(value >= 1 ? 3 : 2)} ${unit}`;
};
const percent = (share) => `${share >= 0.0995 ? (share * 100).toFixed(0) : (share * 100).toPrecision(2)} %`;
const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// What is shown, and the moment that was chosen.
let [from, to, cursor] = [first, last, null];
const place = (at) => ((at - from) / (to - from)) * 100;

// ---- Head ----
const failed = record.checks.filter((check) => !check.ok).length;
document.title = `${failed ? "✗" : "✓"} ${record.scenario}, seed ${record.seed}`;
$("scenario").textContent = record.scenario;
const faithful = record.verdict === "faithful";
const held = record.checks.length ? `✓ ${several(record.checks.length, "check")} held` : "nothing was checked";
$("badges").append(
  make("span", `badge ${failed ? "bad" : "good"}`, failed ? `✗ ${failed} of ${several(record.checks.length, "check")} failed` : held),
  make("span", `badge ${faithful ? "good" : "bad"}`, faithful ? "✓ faithful" : "⚠ overloaded"),
);
const late = (seconds) => (seconds >= 0.0995 ? `${seconds.toFixed(2)} s` : `${(seconds * 1000).toPrecision(2)} ms`);
const wire = record.wire;
for (const [what, value] of [
  ["seed", record.seed], ["backend", record.backend], ["took", time(record.wall)], ["nodes", record.nodes.length],
  ["packets late by", wire.timed ? `p50 ${late(wire.p50)}, p99 ${late(wire.p99)}` : "–"], ["dropped beside links", wire.drops],
]) {
  $("facts").append(make("div", "", make("dt", "", what), make("dd", "", String(value))));
}
if (record.repeat) {
  $("repeat").hidden = false;
  $("command").textContent = record.repeat;
  $("copy").addEventListener("click", () => {
    const done = () => { $("copy").textContent = "Copied"; };
    const select = () => getSelection().selectAllChildren($("command"));
    // Pages of files may not write to the clipboard everywhere.
    if (navigator.clipboard) navigator.clipboard.writeText(record.repeat).then(done, select);
    else select();
  });
}
if (!faithful) {
  $("notices").append(make("p", "notice",
    `The machine could not keep up: 99 of 100 delayed packets came up to ${late(wire.p99)} late, and ${wire.drops} were dropped where no ` +
    "link was to drop them. What the programs did may be due to that: repeat the run with less beside it."));
}

// ---- Tooltip: by pointer and by keyboard ----
const tip = $("tip");
const show = (text, x, y) => {
  tip.textContent = text;
  tip.hidden = false;
  const room = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(4, Math.min(x + 12, room - tip.offsetWidth - 6)) + scrollX}px`;
  const below = y + 18 + tip.offsetHeight < innerHeight;
  tip.style.top = `${(below ? y + 18 : Math.max(4, y - tip.offsetHeight - 10)) + scrollY}px`;
};
const hide = () => { tip.hidden = true; };
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
const explains = (element, text) => {
  element.setAttribute("aria-label", text.replace(/\n/g, ", "));
  element.addEventListener("pointermove", (event) => { show(text, event.clientX, event.clientY); event.stopPropagation(); });
  element.addEventListener("pointerleave", hide);
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    show(text, box.left, box.bottom - 14);
  });
  element.addEventListener("blur", hide);
};
