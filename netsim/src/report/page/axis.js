// ---- Axis, cursor, zoom ----
const moment = (event, box) => from + ((event.clientX - box.left) / box.width) * (to - from);
const line = make("div", "");
line.id = "cursor";
line.hidden = true;
tracks.append(line);
const follow = () => {
  const box = axis.getBoundingClientRect();
  const inside = cursor !== null && cursor >= from && cursor <= to;
  line.hidden = !inside;
  const left = box.left - tracks.getBoundingClientRect().left - tracks.clientLeft;
  if (inside) line.style.left = `${left + (box.width * place(cursor)) / 100}px`;
};
const grid = () => {
  tracks.querySelectorAll(".tick").forEach((tick) => tick.remove());
  const wanted = Math.max(2, Math.floor(axis.getBoundingClientRect().width / 90));
  const rough = (to - from) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const begin = Math.ceil(Math.max(0, from) / step - 1e-9);
  for (let number = begin; number * step <= Math.min(to, end) + 1e-9; number += 1) {
    for (const track of tracks.querySelectorAll(".track")) {
      const tick = make("div", "tick");
      tick.style.left = `${place(number * step)}%`;
      if (track === axis) tick.append(make("span", "", `${(number * step).toFixed(digits)} s`));
      track.prepend(tick);
    }
  }
};
const redraw = () => {
  redraws.forEach((each) => each());
  grid();
  follow();
  const whole = from <= first && to >= last;
  $("shown").textContent = whole ? "" : `${time(Math.max(0, from))} to ${time(Math.min(end, to))}`;
  $("whole").disabled = $("out").disabled = whole;
  $("earlier").disabled = from <= first;
  $("later").disabled = to >= last;
  $("in").disabled = to - from <= 0.002;
};
const view = (a, b) => {
  const width = Math.min(Math.max(b - a, 0.002), last - first);
  from = Math.max(first, Math.min(a, last - width));
  to = from + width;
  hide();
  redraw();
};
const zoom = (factor) => {
  const middle = cursor !== null && cursor >= from && cursor <= to ? cursor : (from + to) / 2;
  const width = (to - from) * factor;
  view(middle - width * ((middle - from) / (to - from)), middle - width * ((middle - from) / (to - from)) + width);
};
$("in").addEventListener("click", () => zoom(0.5));
$("out").addEventListener("click", () => zoom(2));
$("earlier").addEventListener("click", () => view(from - (to - from) / 2, to - (to - from) / 2));
$("later").addEventListener("click", () => view(from + (to - from) / 2, to + (to - from) / 2));
$("whole").addEventListener("click", () => view(first, last));
tracks.addEventListener("click", (event) => {
  if (!event.target.closest(".track") || event.target.closest("button")) return;
  choose(Math.max(0, Math.min(end, moment(event, axis.getBoundingClientRect()))));
});
addEventListener("resize", redraw);
$("legend").append(
  "Bars are faults (a dashed end: it lasted as long as the run), ✓ and ✗ checks, grey bars below lines of output (orange: standard error). ",
  ...(links.size ? ["Below: what each link was given, and in red the share that did not arrive. "] : []),
  "Click on a moment to read the log there.");
