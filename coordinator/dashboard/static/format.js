// How numbers are written for people; the same words as in the terminal (coordinator/status.py).

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const number = (count) => whole.format(count);

export const rate = (value) => (value >= 10 || value === 0 ? whole.format(value) : tenth.format(value));

// Bytes, in two parts: the figure and its unit.
export function sizeParts(count) {
  let left = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(left) < 1024)
      return [unit === "B" || left >= 100 ? whole.format(left) : tenth.format(left), unit];
    left /= 1024;
  }
  return [tenth.format(left), "TiB"];
}

export const size = (count) => sizeParts(count).join(" ");

const two = (value) => String(value).padStart(2, "0");

export function time(seconds) {
  const rounded = Math.max(0, Math.round(seconds));
  if (rounded < 60) return seconds > 0 && seconds < 9.95 ? `${tenth.format(seconds)} s` : `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${two(rounded % 60)} s`;
  if (rounded < 86400) return `${Math.floor(rounded / 3600)} h ${two(Math.floor((rounded % 3600) / 60))} min`;
  return `${Math.floor(rounded / 86400)} d ${Math.floor((rounded % 86400) / 3600)} h`;
}

// A time of day, of this browser's zone. `at`: seconds since 1970.
export function clock(at, withSeconds = true) {
  const date = new Date(at * 1000);
  const parts = [date.getHours(), date.getMinutes(), ...(withSeconds ? [date.getSeconds()] : [])];
  return parts.map(two).join(":");
}

export const plural = (count, noun, ending = "s") => `${number(count)} ${noun}${count === 1 ? "" : ending}`;

// For an axis: 1,500 as 1.5k.
export function short(value) {
  for (const [step, sign] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ])
    if (value >= step) return `${Number((value / step).toPrecision(3))}${sign}`;
  return String(Number(value.toPrecision(3)));
}
