// @ts-check
/** Nodes, made and kept. Nothing is written where nothing changed, and no outside text is ever parsed. */

const said = new WeakMap();

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export const byId = (id) => /** @type {T} */ (/** @type {unknown} */ (document.getElementById(id)));

/** @param {string} tag @param {string} name class @param {...(Node | string)} inside */
export function make(tag, name = "", ...inside) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...inside);
  return node;
}

/** @param {Element} node @param {string} text */
export function put(node, text) {
  if (said.get(node) === text) return false;
  said.set(node, text);
  node.textContent = text;
  return true;
}

/** @param {Element} node @param {string} name @param {string | null} value null takes it away */
export function attribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/**
 * A sentence of parts; its nodes stay where their kind stays.
 * @param {Element} node
 * @param {import("./words.js").Part[]} parts
 */
export function sentence(node, parts) {
  while (node.childElementCount > parts.length) node.lastElementChild?.remove();
  parts.forEach((part, i) => {
    const tag = part.b ? "B" : "SPAN";
    let own = node.children[i];
    if (own?.tagName !== tag) {
      const fresh = document.createElement(tag);
      own ? own.replaceWith(fresh) : node.append(fresh);
      own = fresh;
    }
    if (own.className !== (part.c ?? "")) own.className = part.c ?? "";
    put(own, part.t);
  });
}

/** @param {import("./words.js").Part[]} parts */
export const plain = (parts) => parts.map((part) => part.t).join("");

/**
 * Children of `node` in the order of `list`, moved only where that is another one.
 * @param {Element} node
 * @param {Node[]} list
 */
export function arrange(node, list) {
  const now = node.childNodes;
  if (now.length === list.length && list.every((one, i) => now[i] === one)) return false;
  node.replaceChildren(...list);
  return true;
}

/**
 * Rows of a table body, kept by their place.
 * @param {Element} body
 * @param {string[][]} rows
 * @param {string[]} classes of the columns
 */
export function table(body, rows, classes) {
  while (body.childElementCount > rows.length) body.lastElementChild?.remove();
  rows.forEach((row, i) => {
    let line = body.children[i];
    if (!line) {
      line = make("tr", "", ...row.map((_, column) => make("td", classes[column] ?? "")));
      body.append(line);
    }
    row.forEach((cell, column) => put(line.children[column], cell));
  });
}
