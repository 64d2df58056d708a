// The stacked bars of the usage page. The numbers are in the page (`usage-chart`), the colours in
// the style sheet (`.chart-0` …), so that both themes have their own.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("usage-chart")?.textContent ?? "null");
  const place = document.getElementById("chart");
  if (!data || !place) return;
  const says = document.getElementById("chart-says");
  const number = new Intl.NumberFormat("en-US");
  const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
  const step = data.step === "hour" ? 3600 : 86400;

  // Each bar reaches from the ground to the sum of its series and those below: drawn from the
  // highest to the lowest, what stays visible of it is its own part.
  const sums = [];
  data.series.forEach((one, n) => {
    sums.push(one.values.map((value, at) => value + (n ? sums[n - 1][at] : 0)));
  });
  const series = data.series.map((_, n) => n).reverse();

  const probe = document.createElement("span");
  function colour(name) {
    probe.className = name;
    return getComputedStyle(probe).color;
  }

  function whenOf(at) {
    const text = new Date(at * 1000).toISOString();
    return data.step === "hour" ? `${text.slice(0, 10)} ${text.slice(11, 13)}:00` : text.slice(0, 10);
  }
  function shortWhen(at) {
    const text = new Date(at * 1000).toISOString();
    return at % 86400 ? text.slice(11, 16) : text.slice(5, 10);
  }
  function say(at) {
    if (at == null) {
      says.textContent = "";
      return;
    }
    const parts = data.series
      .filter((one) => one.values[at])
      .map((one) => `${one.label} ${number.format(one.values[at])}`);
    const all = sums.length ? sums[sums.length - 1][at] : 0;
    says.textContent = `${whenOf(data.times[at])} · ${number.format(all)} · ${parts.slice(0, 4).join(" · ")}`;
  }

  let chart;
  function draw() {
    chart?.destroy();
    place.append(probe);
    const ink = colour("quiet");
    const line = colour("chart-line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px Inter, sans-serif" };
    const bars = uPlot.paths.bars({ size: [0.8, 40], align: 1 });
    const options = {
      width: place.clientWidth,
      height: place.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      scales: {
        x: { time: true, range: () => [data.times[0], data.times[data.times.length - 1] + step] },
        y: { range: (_, low, high) => [0, high ? high * 1.05 : 1] },
      },
      axes: [{ ...axis, values: (_, ticks) => ticks.map(shortWhen) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => short.format(tick)) }],
      series: [
        {},
        ...series.map((n) => ({
          label: data.series[n].label,
          fill: colour(`chart-${n}`),
          width: 0,
          paths: bars,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(self) => say(self.cursor.idx)] },
    };
    probe.remove();
    chart = new uPlot(options, [data.times, ...series.map((n) => sums[n])], place);
  }

  draw();
  place.dataset.isDrawn = "yes";
  document.addEventListener("theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => {
    const { clientWidth: width, clientHeight: height } = place;
    if (width !== chart.width || height !== chart.height) chart.setSize({ width, height });
  }).observe(place);
})();
