// Small helpers for the document. Text goes in as text: there is no way here to make HTML of it.

export const byId = (id) => document.getElementById(id);

/** An element with classes, attributes, and children: elements, or text. */
export function element(name, { className = "", ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (className !== "") made.className = className;
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** What somebody wrote: its direction is its own, and does not leave it. */
export const foreign = (text, className) => element("bdi", { className }, text);

/** The first letter of a name in a circle, in one of a few colours. */
export function avatar(name) {
  const [first = "?"] = new Intl.Segmenter().segment(name);
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  const letter = (first.segment ?? "?").toUpperCase();
  return element("span", { className: `avatar hue-${(hash >>> 0) % 8}`, "aria-hidden": "true" }, letter);
}

/** Puts `children` into a list; who has the focus keeps it, by `data-key`. */
export function replace(list, children) {
  const key = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  list.replaceChildren(...children);
  if (key !== undefined) list.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}
