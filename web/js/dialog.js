// A dialog of this pack over ComfyUI's page, and a small menu. Both are closed by Esc, and keys in them are no
// shortcuts of the canvas.
import { element } from "./elements.js";

const OF_KEYS = ["keydown", "keyup", "paste", "copy"];

const keepKeys = (part) => {
  for (const name of OF_KEYS) part.addEventListener(name, (event) => event.stopPropagation());
};

let close = () => {}; // what is open: one at a time

/** Close the dialog or menu that is open. */
export const closeOpened = () => close();

/** Open a dialog with a title, in the place of the one that is open; `inside` are elements. Returns it; `onClose` is
 * called once. */
export function openDialog(title, inside, onClose = () => {}) {
  close();
  const cross = element("button", "hf-dialog-close", "\u00d7");
  cross.type = "button";
  cross.setAttribute("aria-label", "Close");
  const made = element("dialog", "hf-dialog", element("h2", "hf-dialog-title", title), cross, ...inside);
  made.setAttribute("aria-label", title);
  cross.addEventListener("click", () => made.close());
  made.addEventListener("close", () => {
    made.remove();
    onClose();
  });
  keepKeys(made);
  document.body.append(made);
  made.showModal();
  close = () => made.close();
  return made;
}

/** Open a dialog that says a sentence. */
export const tell = (title, text) => openDialog(title, [element("p", "hf-dialog-told", text)]);

/** Open a menu at a place of the page; `items` are [text, what to do]. */
export function openMenu(x, y, items) {
  close();
  const before = document.activeElement;
  let isOpen = true;
  const buttons = items.map(([text, act]) => {
    const button = element("button", "hf-menu-item", text);
    button.type = "button";
    button.setAttribute("role", "menuitem");
    button.addEventListener("click", () => {
      shut();
      act();
    });
    return button;
  });
  const menu = element("div", "hf-menu", ...buttons);
  const shut = (goesBack = true) => {
    if (!isOpen) return;
    isOpen = false; // what has the focus loses it as it is removed
    menu.remove();
    if (goesBack) before?.focus?.({ preventScroll: true });
  };
  menu.setAttribute("role", "menu");
  menu.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") shut();
    else if (step) buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length).focus();
    else return;
    event.preventDefault();
  });
  menu.addEventListener("focusout", ({ relatedTarget }) => menu.contains(relatedTarget) || shut(false));
  menu.addEventListener("contextmenu", (event) => event.preventDefault());
  keepKeys(menu);
  document.body.append(menu);
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(0, Math.min(x, innerWidth - width))}px`;
  menu.style.top = `${Math.max(0, Math.min(y, innerHeight - height))}px`;
  buttons[0].focus();
  close = shut;
}
