// ---- Lanes ----
const tracks = $("tracks");
const redraws = [];
const lane = (name, kind, ...notes) => {
  const track = make("div", "track");
  const label = make("div", "name", name, ...notes.map((note) => make("small", note[1] || "", note[0])));
  const row = make("div", `lane ${kind}`, label, track);
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", name || "time");
  tracks.append(row);
  return track;
};
const put = (track, element, at, until) => {
  const redraw = () => {
    const [left, right] = [place(at), place(until ?? at)];
    element.hidden = right < -1 || left > 101;
    element.style.left = `${Math.max(left, -0.4)}%`;
    if (until !== undefined) element.style.width = `${Math.min(right, 101) - Math.max(left, -0.4)}%`;
  };
  redraws.push(redraw);
  track.append(element);
};
// Which row each of overlapping things goes to, so that none covers another.
const rows = (things, gap) => {
  const ends = [];
  return things.map(({ at, until }) => {
    let row = ends.findIndex((last) => last <= at);
    if (row < 0) row = ends.push(0) - 1;
    ends[row] = Math.max(until, at + gap);
    return row;
  });
};
const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
const tall = (track, count, below) => { track.style.minHeight = `${(0.35 + count * 1.5 + below) * rem}px`; };

const axis = lane("", "axis");

// Checks: marks that are too near to one another go below one another.
if (record.checks.length) {
  const track = lane("checks", "checks");
  const marks = record.checks.map((check) => ({ at: check.at, until: check.at }));
  const order = rows(marks, (24 * (last - first)) / Math.max(axis.getBoundingClientRect().width, 200));
  record.checks.forEach((check, number) => {
    const mark = make("button", `item mark ${check.ok ? "good" : "bad"}`, check.ok ? "✓" : "✗");
    mark.type = "button";
    mark.style.top = `${(0.35 + Math.min(order[number], 5) * 1.5) * rem}px`;
    explains(mark, `${check.ok ? "held" : "FAILED"} at ${time(check.at)}\n${check.name}${check.detail ? `\n${check.detail}` : ""}`);
    mark.addEventListener("click", () => choose(check.at));
    put(track, mark, check.at);
  });
  tall(track, Math.min(Math.max(...order), 5) + 1, 0);
}

const bars = (track, faults, below) => {
  const spans = faults.map((fault) => ({ at: fault.at, until: fault.until ?? last }));
  const second = Math.max(axis.getBoundingClientRect().width, 200) / (last - first);
  const room = spans.map(({ at, until }, number) => ({
    at, until: until > at ? until : at + (faults[number].kind.length * 7.5 + 16) / second,
  }));
  const order = rows(room, 9 / second);
  faults.forEach((fault, number) => {
    const { at, until } = spans[number];
    const once = until <= at;
    const bar = make("button", `item fault${fault.until === null ? " open" : ""}${once ? " once" : ""}`);
    bar.append(make("span", "", fault.kind));
    bar.type = "button";
    bar.style.top = `${(0.35 + order[number] * 1.5) * rem}px`;
    const lasts = once ? `at ${time(at)}` : fault.until === null ? `from ${time(at)} on` : `${time(at)} to ${time(until)}`;
    explains(bar, `${fault.kind}\n${lasts}${fault.on.length ? `\non ${fault.on.join(", ")}` : ""}`);
    bar.addEventListener("click", () => choose(at));
    put(track, bar, at, once ? undefined : until);
  });
  tall(track, faults.length ? Math.max(...order) + 1 : 0, below);
};

// Faults of what is none of the nodes: links, routers, the network as a whole.
const known = new Set(record.nodes.map((node) => node.name));
const other = record.faults.filter((fault) => !fault.on.length || fault.on.some((name) => !known.has(name)));
if (other.length) bars(lane("network", "other", ["links and routers"]), other, 0);

const bins = 240;
record.nodes.forEach((node) => {
  const notes = [[several(node.lines.length + node.left_out, "line")]];
  const track = lane(node.name, "node", ...notes);
  bars(track, record.faults.filter((fault) => fault.on.includes(node.name)), 1.4);
  if (!node.lines.length) return;
  const said = draw("svg", { class: "said", viewBox: `0 0 ${bins} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const [out, err] = [draw("path", { class: "out" }), draw("path", { class: "err" })];
  said.append(out, err);
  track.append(said);
  redraws.push(() => {
    const [all, bad] = [new Array(bins).fill(0), new Array(bins).fill(0)];
    for (const [at, , stream] of node.lines) {
      const bin = Math.floor(((at - from) / (to - from)) * bins);
      if (bin < 0 || bin > bins || (bin === bins && at > to)) continue;
      all[Math.min(bin, bins - 1)] += 1;
      if (stream === "stderr") bad[Math.min(bin, bins - 1)] += 1;
    }
    const most = Math.max(...all, 1);
    const tall = (count) => (count ? 25 + (75 * Math.log(1 + count)) / Math.log(1 + most) : 0);
    const path = (counts, whole) => counts.map((count, bin) => {
      if (!count) return "";
      const height = tall(whole[bin]) * (count / whole[bin]);
      return `M${bin} 100v${-height.toFixed(1)}h.8v${height.toFixed(1)}z`;
    }).join("");
    out.setAttribute("d", path(all, all));
    err.setAttribute("d", path(bad, all));
  });
  const near = (event) => {
    const box = said.getBoundingClientRect();
    const at = from + ((event.clientX - box.left) / box.width) * (to - from);
    const reach = ((to - from) / bins) * 2;
    return [at, node.lines.filter((line) => Math.abs(line[0] - at) <= reach)];
  };
  said.addEventListener("pointermove", (event) => {
    const [at, lines] = near(event);
    if (!lines.length) return hide();
    lines.sort((a, b) => Math.abs(a[0] - at) - Math.abs(b[0] - at));
    const shown = lines.slice(0, 8).sort((a, b) => a[0] - b[0]);
    const text = shown.map((line) => `${time(line[0])}  ${plain(line[3]).slice(0, 160)}`).join("\n");
    show(text + (lines.length > 8 ? `\n… and ${lines.length - 8} more; click to read them` : ""), event.clientX, event.clientY);
  });
  said.addEventListener("pointerleave", hide);
  said.addEventListener("click", (event) => {
    $("node").value = node.name;
    choose(near(event)[0]);
    event.stopPropagation();
  });
});
