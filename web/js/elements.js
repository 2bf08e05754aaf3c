// Elements of a page in one call, and a style sheet of this pack.

/** An element with a class, and what is in it: a text, or other elements. */
export function element(tag, name, ...inside) {
  const made = document.createElement(tag);
  made.className = name;
  made.append(...inside);
  return made;
}

/** Add a style sheet from web/css to the page. */
export function addStyle(file) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL(`../css/${file}`, import.meta.url).href;
  document.head.append(link);
}
