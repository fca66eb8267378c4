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
