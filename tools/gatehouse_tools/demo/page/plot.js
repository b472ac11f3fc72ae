// The sensor's readings as a line: nothing of it is read aloud, the newest value stands beside it as text.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 60, SHOWN = 60, LEAST = 2; // LEAST: degrees, so that noise does not look like a storm

export function plot() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "plot");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const base = document.createElementNS(SVG, "line");
  for (const [name, value] of [["x1", 0], ["x2", WIDTH], ["y1", HEIGHT - 1], ["y2", HEIGHT - 1]]) base.setAttribute(name, value);
  const line = document.createElementNS(SVG, "path");
  svg.append(base, line);
  return { element: svg, draw: (readings) => line.setAttribute("d", path(readings.slice(-SHOWN))) };
}

export function path(readings) {
  if (readings.length < 2) return "";
  const values = readings.map((one) => one[1]);
  const middle = (Math.max(...values) + Math.min(...values)) / 2;
  const span = Math.max(LEAST, Math.max(...values) - Math.min(...values));
  const step = WIDTH / (SHOWN - 1), start = WIDTH - step * (readings.length - 1);
  const point = (value, at) => `${(start + at * step).toFixed(1)} ${(HEIGHT / 2 - (value - middle) / span * (HEIGHT - 10)).toFixed(1)}`;
  return "M" + values.map(point).join(" L");
}
