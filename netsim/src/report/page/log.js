// ---- Checks ----
record.checks.forEach((check) => {
  const at = make("button", "at", time(check.at));
  at.type = "button";
  at.addEventListener("click", () => choose(check.at));
  const what = make("div", "what", check.name);
  if (check.detail) what.append(make("div", "detail", check.detail));
  $("checks").append(make("li", check.ok ? "good" : "bad", at, make("span", "sign", check.ok ? "✓" : "✗"), what));
});
if (!record.checks.length) $("checks").append(make("li", "", "", "", "This scenario checks nothing."));

// ---- Log ----
const page = 500;
const all = record.nodes.flatMap((node) => node.lines.map(([at, program, stream, text]) => ({ at, node: node.name, program, stream, text: plain(text) })));
all.sort((a, b) => a.at - b.at);
for (const node of record.nodes) {
  const option = make("option", "", node.name);
  option.value = node.name;
  $("node").append(option);
}
let start = 0;
const list = () => {
  const [node, text] = [$("node").value, $("text").value.toLowerCase()];
  const found = all.filter((entry) => (!node || entry.node === node)
    && (!text || entry.text.toLowerCase().includes(text) || entry.program.toLowerCase().includes(text)));
  start = Math.max(0, Math.min(start, found.length - page));
  const nearest = cursor === null ? -1 : found.findIndex((entry) => entry.at >= cursor);
  const part = found.slice(start, start + page);
  $("lines").replaceChildren(...part.map((entry, number) => {
    const how = entry.program ? `${entry.program} ${entry.stream === "stderr" ? "(err)" : ""}` : entry.stream;
    const row = make("div", `entry ${entry.stream}${start + number === nearest ? " near" : ""}`, make("span", "at", time(entry.at)),
      make("span", "who", entry.node), make("span", "how", how), make("span", "words", entry.text));
    return row;
  }));
  const gone = record.nodes.filter((each) => !node || each.name === node).reduce((sum, each) => sum + each.left_out, 0);
  const range = found.length > page ? `, lines ${start + 1} to ${start + part.length} shown` : "";
  $("found").textContent = `${several(found.length, "line")}${range}${gone ? `; ${several(gone, "earlier line")} only in the .log files` : ""}`;
  $("before").disabled = start <= 0;
  $("after").disabled = start + page >= found.length;
  return [found, nearest];
};
const choose = (at) => {
  cursor = at;
  follow();
  const [node, text] = [$("node").value, $("text").value];
  if (node === "" && text === "") start = 0;
  const [found] = list();
  const nearest = found.findIndex((entry) => entry.at >= at);
  start = Math.max(0, (nearest < 0 ? found.length : nearest) - page / 2);
  list();
  const row = $("lines").querySelector(".near") || $("lines").lastElementChild;
  if (row) $("lines").scrollTop = Math.max(0, row.offsetTop - $("lines").clientHeight / 3);
};
const refilter = () => { start = 0; list(); };
$("node").addEventListener("change", () => (cursor === null ? refilter() : choose(cursor)));
$("text").addEventListener("input", refilter);
$("filter").addEventListener("submit", (event) => event.preventDefault());
const turn = (by) => { start += by; list(); $("lines").scrollTop = 0; };
$("before").addEventListener("click", () => turn(-page));
$("after").addEventListener("click", () => turn(page));

redraw();
const wrong = record.checks.find((check) => !check.ok);
if (wrong) choose(wrong.at);
else list();
document.documentElement.dataset.drawn = "yes";
