"use strict";
(() => {
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

  // ---- Curves: counters from the beginning on, so that what lies between two moments is a difference ----
  const counted = (samples, at, field) => {
    let [low, high] = [0, samples.length - 1];
    if (at <= samples[0][0]) return samples[0][field];
    if (at >= samples[high][0]) return samples[high][field];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (samples[middle][0] <= at) low = middle;
      else high = middle;
    }
    const [a, b] = [samples[low], samples[high]];
    return a[field] + ((b[field] - a[field]) * (at - a[0])) / (b[0] - a[0] || 1);
  };
  const links = new Map();
  for (const curve of record.curves) {
    if (curve.samples.length < 2) continue;
    if (!links.has(curve.link)) links.set(curve.link, []);
    links.get(curve.link).push(curve);
  }
  for (const [name, ways] of links) {
    const notes = ways.map((way, number) => [`${number ? "┄" : "─"} ${way.from} → ${way.to}`, number ? "back" : "there"]);
    const track = lane(name, "curve", ...notes);
    const svg = draw("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    const [most, worst] = [make("small", ""), make("small", "lost")];
    track.parentElement.firstElementChild.append(most, worst);
    const lost = draw("path", { class: "lost" });
    const paths = ways.map((_, number) => draw("path", { class: number ? "back" : "there" }));
    svg.append(lost, ...paths);
    track.append(svg);
    const steps = () => {
      const within = ways[0].samples.filter((sample) => sample[0] >= from && sample[0] <= to).length;
      return Math.max(4, Math.min(240, within));
    };
    const rates = (at, until) => ways.map((way) => {
      const change = (field) => counted(way.samples, until, field) - counted(way.samples, at, field);
      // What was given in one step may be lost in the next.
      const gone = change(3);
      return { bits: (change(1) * 8) / (until - at), lost: gone > 0 ? gone / Math.max(change(2), gone) : 0, gone };
    });
    redraws.push(() => {
      const count = steps();
      const edge = (step) => from + ((to - from) * step) / count;
      const all = Array.from({ length: count }, (_, step) => rates(edge(step), edge(step + 1)));
      const peak = Math.max(...all.flat().map((rate) => rate.bits), 1);
      const gone = Math.max(...all.flat().map((rate) => rate.lost));
      ways.forEach((_, way) => {
        const path = all.map((step, number) => {
          const y = (97 - (92 * step[way].bits) / peak).toFixed(1);
          return `${number ? "L" : "M"}${((number * 1000) / count).toFixed(1)} ${y}H${(((number + 1) * 1000) / count).toFixed(1)}`;
        });
        paths[way].setAttribute("d", path.join(""));
      });
      lost.setAttribute("d", all.map((step, number) => {
        const share = Math.max(...step.map((rate) => rate.lost));
        const height = share > 0 ? Math.max(3, 100 * share) : 0;
        return height ? `M${(number * 1000) / count} 100v${-height.toFixed(1)}h${1000 / count}v${height.toFixed(1)}z` : "";
      }).join(""));
      most.textContent = `up to ${scaled(peak, "bit/s")}`;
      worst.textContent = gone > 0 ? `up to ${percent(gone)} lost` : "";
    });
    track.addEventListener("pointermove", (event) => {
      const box = track.getBoundingClientRect();
      const width = (to - from) / steps();
      const at = Math.max(0, Math.min(end - width, moment(event, box) - width / 2));
      const text = rates(at, at + width).map((rate, number) => `${ways[number].from} → ${ways[number].to}: ${scaled(rate.bits, "bit/s")}` +
        (rate.gone > 0 ? `, ${percent(rate.lost)} lost` : ""));
      show(`${time(at)} to ${time(at + width)}\n${text.join("\n")}`, event.clientX, event.clientY);
    });
    track.addEventListener("pointerleave", hide);
  }

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
})();
