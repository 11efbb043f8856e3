// Makes and changes elements. Text goes in as text: nothing here, or anywhere in this page, reads HTML from a string.

export const $ = (id) => document.getElementById(id);

// A new element. `props`: its properties and, by name, attributes (`aria-...`, `data-...`); children: nodes or texts.
export function el(name, props = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key.includes("-") || key === "role" || key === "scope") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);
  return node;
}

// Sets a text only where it differs: what stands still costs no layout, and a selection survives.
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function show(node, wanted) {
  if (node.hidden === wanted) node.hidden = !wanted;
}

export function attribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Children of `parent`, one for each of `things`, in this order; those with a known key are kept and filled anew.
export function keyed(parent, things, key, make, fill) {
  const known = new Map();
  for (const child of parent.children) known.set(child.dataset.key, child);
  const used = new Set();
  let position = parent.firstElementChild;
  for (const thing of things) {
    let name = String(key(thing));
    while (used.has(name)) name += "+"; // two that look the same
    used.add(name);
    let node = known.get(name);
    if (!node) {
      node = make(thing);
      node.dataset.key = name;
    }
    if (node === position) position = position.nextElementSibling;
    else parent.insertBefore(node, position);
    fill(node, thing);
  }
  for (const [name, node] of known) if (!used.has(name)) node.remove();
}

// A table that is filled again and again. `columns`: {title, kind ("num", "name", ...), fill(cell, row), hint}.
export class Table {
  constructor(parent, label, columns, key, empty) {
    this.columns = columns;
    this.key = key;
    this.body = el("tbody");
    const heads = columns.map((of) =>
      el("th", { scope: "col", className: of.kind ?? "", title: of.hint }, of.title),
    );
    this.table = el("table", { "aria-label": label }, el("thead", {}, el("tr", {}, ...heads)), this.body);
    this.empty = el("p", { className: "empty" });
    this.more = el("p", { className: "more" });
    this.said = empty;
    parent.append(this.table, this.more, this.empty);
  }

  fill(rows, { all = rows.length, empty = this.said } = {}) {
    keyed(
      this.body,
      rows,
      this.key,
      () => el("tr", {}, ...this.columns.map((of) => el("td", { className: of.kind ?? "" }))),
      (node, row) => this.columns.forEach((of, at) => of.fill(node.children[at], row)),
    );
    show(this.table, rows.length > 0);
    show(this.empty, rows.length === 0);
    text(this.empty, empty);
    show(this.more, all > rows.length);
    text(this.more, `and ${all - rows.length} more`);
  }
}

// A part of a cell that stays: the first child with this class, made when it is first asked for.
export function part(cell, name, className, make) {
  let node = cell.querySelector(`:scope > .${className}`);
  if (!node) {
    node = make ? make() : el(name);
    node.classList.add(className);
    cell.append(node);
  }
  return node;
}
