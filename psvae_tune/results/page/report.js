"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const trials = new Map(data.trials.map((trial) => [trial.run_id, trial]));
  const detail = document.getElementById("detail");
  const svg = document.getElementById("front");
  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 420, 78, 20, 16, 52];
  let pinned = null;

  const element = (name, attributes = {}, text = "") => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const shape = (name, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const write = (value) =>
    typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value ?? "");

  function show(trial) {
    if (!detail || !trial) return;
    const list = element("dl");
    const rows = { ...trial.params, ...trial.metrics };
    for (const [name, value] of Object.entries(rows)) {
      if (value === null || value === undefined) continue;
      list.append(element("dt", {}, name), element("dd", {}, write(value)));
    }
    const title = element("p");
    title.append(element("b", {}, trial.name), document.createTextNode(` (stage ${trial.stage})`));
    const parts = [title, list];
    if (trial.thumbnail) parts.push(element("img", { src: trial.thumbnail, alt: `Traversals of ${trial.name}` }));
    detail.replaceChildren(...parts);
  }

  function pin(id) {
    pinned = pinned === id ? null : id;
    for (const node of document.querySelectorAll(".pinned")) node.classList.remove("pinned");
    if (pinned === null) return;
    for (const node of document.querySelectorAll(`[data-run="${CSS.escape(id)}"]`)) node.classList.add("pinned");
    const trial = trials.get(id);
    show(trial);
    document.getElementById("trial-name").textContent = trial.name;
    document.getElementById("command").textContent = trial.command;
  }

  function scale(values, isLog, low, high) {
    const place = isLog ? Math.log10 : (value) => value;
    let [first, last] = [Math.min(...values.map(place)), Math.max(...values.map(place))];
    const pad = (last - first || Math.abs(last) || 1) * 0.08;
    [first, last] = [first - pad, last + pad];
    const to = (value) => low + ((place(value) - first) / (last - first)) * (high - low);
    return { to, ticks: isLog ? logTicks(first, last) : ticks(first, last) };
  }
  function ticks(first, last) {
    const rough = (last - first) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let k = Math.ceil(first / step); k * step <= last; k++) found.push(k * step);
    return found;
  }
  function logTicks(first, last) {
    const found = [];
    for (let power = Math.floor(first); power <= last; power++)
      for (const factor of [1, 2, 5]) {
        const value = factor * 10 ** power;
        if (Math.log10(value) >= first && Math.log10(value) <= last) found.push(value);
      }
    return found.length > 1 ? found : [10 ** first, 10 ** last];
  }

  function marker(trial, x, y) {
    const kind = `point${trial.is_front ? " front" : ""}${trial.is_chosen ? " chosen" : ""}${trial.run_id === pinned ? " pinned" : ""}`;
    const common = { class: kind, "data-run": trial.run_id, tabindex: 0, role: "button", "aria-label": trial.name };
    if (trial.is_chosen) {
      const corners = [...Array(10).keys()].map((k) => {
        const [radius, angle] = [k % 2 ? 5 : 12, (Math.PI * k) / 5];
        return `${x + radius * Math.sin(angle)},${y - radius * Math.cos(angle)}`;
      });
      return shape("polygon", { ...common, points: corners.join(" ") });
    }
    if (trial.is_front) return shape("rect", { ...common, x: x - 5.5, y: y - 5.5, width: 11, height: 11 });
    return shape("circle", { ...common, cx: x, cy: y, r: 5.5 });
  }

  // A baseline that is too far from the trials would leave them no room.
  function near(values, baseline) {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const reach = 3 * (most - least);
    return baseline && baseline[1] >= least - reach && baseline[1] <= most + reach ? baseline : null;
  }

  function draw() {
    if (!svg) return;
    const [xKey, yKey] = data.axes.map((name) => `best/${name}`);
    const shown = data.trials.filter((t) => t.is_finished && t.metrics[xKey] != null && t.metrics[yKey] != null);
    const [xs, ys] = [shown.map((t) => t.metrics[xKey]), shown.map((t) => t.metrics[yKey])];
    const [xLine, yLine] = [xs, ys].map((values, axis) => near(values, data.baselines[axis]));
    if (xLine) xs.push(xLine[1]);
    if (yLine) ys.push(yLine[1]);
    const [xBox, yBox] = [document.getElementById("log-x"), document.getElementById("log-y")];
    xBox.disabled = xs.some((value) => value <= 0);
    yBox.disabled = ys.some((value) => value <= 0);
    const x = scale(xs, xBox.checked, LEFT, WIDTH - RIGHT);
    const y = scale(ys, yBox.checked, HEIGHT - BOTTOM, TOP);
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    const parts = [];
    for (const tick of x.ticks) {
      parts.push(shape("line", { class: "grid", x1: x.to(tick), x2: x.to(tick), y1: TOP, y2: HEIGHT - BOTTOM }));
      parts.push(shape("text", { x: x.to(tick), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, write(tick)));
    }
    for (const tick of y.ticks) {
      parts.push(shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y.to(tick), y2: y.to(tick) }));
      parts.push(shape("text", { x: LEFT - 7, y: y.to(tick) + 4, "text-anchor": "end" }, write(tick)));
    }
    parts.push(shape("path", { class: "axis", fill: "none", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }));
    parts.push(shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 10, "text-anchor": "middle" }, data.axis_labels[0]));
    const middle = (TOP + HEIGHT - BOTTOM) / 2;
    parts.push(shape("text", { x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` }, data.axis_labels[1]));
    if (xLine) {
      const at = x.to(xLine[1]);
      parts.push(shape("line", { class: "baseline", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
      parts.push(shape("text", { class: "baseline", x: at + (at > WIDTH / 2 ? -5 : 5), y: HEIGHT - BOTTOM - 6, "text-anchor": at > WIDTH / 2 ? "end" : "start" }, xLine[0]));
    }
    if (yLine) {
      const at = y.to(yLine[1]);
      parts.push(shape("line", { class: "baseline", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
      parts.push(shape("text", { class: "baseline", x: WIDTH - RIGHT, y: at - 5, "text-anchor": "end" }, yLine[0]));
    }
    const line = shown.filter((t) => t.is_front).sort((a, b) => a.metrics[xKey] - b.metrics[xKey]);
    if (line.length > 1) {
      // A step: nothing between two trials has the better values of both.
      const [first, ...rest] = line.map((t) => [x.to(t.metrics[xKey]), y.to(t.metrics[yKey])]);
      const step = data.axis_goals[0] === "min" ? ([px, py]) => `H${px}V${py}` : ([px, py]) => `V${py}H${px}`;
      parts.push(shape("path", { class: "frontline", d: `M${first}${rest.map(step).join("")}` }));
    }
    const order = [...shown].sort((a, b) => a.is_chosen - b.is_chosen || a.is_front - b.is_front);
    for (const trial of order) {
      const node = marker(trial, x.to(trial.metrics[xKey]), y.to(trial.metrics[yKey]));
      node.addEventListener("mouseenter", () => pinned === null && show(trial));
      node.addEventListener("focus", () => pinned === null && show(trial));
      node.addEventListener("click", () => pin(trial.run_id));
      node.addEventListener("keydown", (event) => event.key === "Enter" && pin(trial.run_id));
      parts.push(node);
    }
    svg.replaceChildren(...parts);
  }

  function sortBy(heading, column) {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentNode.children) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = document.querySelector("#trials tbody");
    const value = (row) => row.children[column].dataset.value;
    const compare = (a, b) => {
      const [p, q] = [value(a), value(b)];
      if (p === "" || q === "") return (p === "") - (q === ""); // what is lacking comes last
      const order = isNaN(p) || isNaN(q) ? p.localeCompare(q) : p - q;
      return ascending ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  }

  document.querySelectorAll("#trials th").forEach((heading, column) =>
    heading.firstElementChild.addEventListener("click", () => sortBy(heading, column)));
  document.querySelectorAll("#trials tbody tr").forEach((row) =>
    row.addEventListener("click", () => pin(row.dataset.run)));
  document.querySelectorAll("input[name=base]").forEach((input) =>
    input.addEventListener("change", () => {
      for (const image of document.querySelectorAll(".strip img")) image.hidden = !image.classList.contains(`base-${input.value}`);
      document.dispatchEvent(new Event("frames"));
    }));
  for (const id of ["log-x", "log-y"]) document.getElementById(id)?.addEventListener("change", draw);
  draw();
  show(data.trials.find((trial) => trial.is_chosen));
})();
