// Elements from text. Nothing here, or anywhere in the page, parses markup:
// what comes over the network becomes a text node or an attribute's value.

/**
 * h makes an element. Keys of attrs that begin with "on" are event listeners,
 * "vars" are CSS custom properties, false and null leave an attribute out.
 * Children are elements or text; null and false are skipped.
 */
export function h(tag, attrs, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(attrs ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "vars") for (const [name, v] of Object.entries(value)) el.style.setProperty(name, v);
    else el.setAttribute(key, value === true ? "" : value);
  }
  put(el, ...children);
  return el;
}

/** put replaces what el holds. */
export function put(el, ...children) {
  el.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
}

export const $ = (id) => document.getElementById(id);
export const body = (section) => $(section).querySelector(".body");

/**
 * list keeps the children of parent equal to items: what did not change keeps
 * its element, and with it its focus, its selection and whether it is open.
 * key names an item for ever; make(item) draws it from nothing.
 */
export function list(parent, items, key, make) {
  const old = parent.shown ?? new Map();
  const shown = new Map();
  let at = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    const text = JSON.stringify(item);
    let entry = old.get(name);
    if (!entry || entry.text !== text) {
      const el = make(item);
      if (entry) takeOver(entry.el, el, at === entry.el ? () => { at = el; } : null);
      entry = { text, el };
    }
    shown.set(name, entry);
    if (entry.el === at) at = at.nextSibling;
    else parent.insertBefore(entry.el, at);
  }
  for (const [name, entry] of old) if (shown.get(name)?.el !== entry.el) entry.el.remove();
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
  parent.shown = shown;
}

// takeOver puts el where old stood, open and focused as old was.
function takeOver(old, el, moved) {
  if (old.open) el.open = true;
  const focused = old.contains(document.activeElement) ? document.activeElement.dataset.act : undefined;
  old.replaceWith(el);
  moved?.();
  if (focused) el.querySelector(`[data-act="${CSS.escape(focused)}"]`)?.focus();
}

/** ask resolves to true when the person confirms. */
export function ask(question, yes) {
  const dialog = $("ask");
  put($("ask-text"), question);
  put($("ask-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  $("ask-no").focus();
  return new Promise((done) => {
    $("ask-yes").onclick = () => dialog.close("yes");
    $("ask-no").onclick = () => dialog.close("");
    dialog.onclose = () => done(dialog.returnValue === "yes");
  });
}

let toastEnds;
/** toast shows a message for some seconds. */
export function toast(text) {
  const el = $("toast");
  put(el, text);
  el.hidden = false;
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => { el.hidden = true; }, 8000);
}
