// A part of a node that is a page of its own: as high as what it shows, never saved and never sent.
import { app } from "../../../scripts/app.js";

const MARGIN = 10;
const SPACING = 4; // that the host adds to each widget
const UNMEASURED = 40; // pixels, until it has been drawn once
let made = 0;

/** Put `content` under the widgets of a node. Its height may change at any time; the node grows and shrinks with it. */
export function addPanel(node, name, content) {
  const element = document.createElement("div"); // the host stretches this one
  element.append(content);
  made += 1;
  // a new name each time: under one that it knows, Vue nodes leave what they have drawn for a node of the same id
  const widget = node.addDOMWidget(`${name}_${made}`, `head_forcing_${name}`, element, {
    serialize: false, // not sent to the host
    hideInPanel: true,
    hideOnZoom: false, // a picture of a film is still one when it is small
    margin: MARGIN,
  });
  widget.serialize = false; // not saved with the workflow
  widget.computeLayoutSize = undefined; // no share of the room that is left
  let height = UNMEASURED;
  let grown = 0; // by which this made the node higher
  // Vue nodes need no room in the size that is saved: an undo, which loads it, would be followed by a change of it
  widget.computeSize = (width) => [width ?? 0, window.LiteGraph.vueNodesMode ? -SPACING : height + 2 * MARGIN];
  const observer = new ResizeObserver(() => {
    const now = content.offsetHeight;
    if (!now || now === height) return; // 0: not in the page at the moment
    const change = now - height;
    height = now;
    if (window.LiteGraph.vueNodesMode) return; // there the page itself lays nodes out
    grown = fit(node, change, grown);
  });
  observer.observe(content);
  element.addEventListener("wheel", (event) => {
    const box = event.target.closest("textarea");
    if (box && box.scrollHeight > box.clientHeight) event.stopPropagation();
    else if (!window.LiteGraph.vueNodesMode) app.canvas.processMouseWheel(event);
  });
  element.addEventListener("keydown", (event) => {
    const saves = (event.ctrlKey || event.metaKey) && event.key === "s"; // else the browser would save its page
    if (!saves) event.stopPropagation(); // what is typed here is no shortcut of the canvas
  });
  return widget;
}

/** Do something more whenever the host calls one of a node's own functions. */
export function chain(node, name, then) {
  const before = node[name];
  node[name] = function (...given) {
    const result = before?.apply(this, given);
    then();
    return result;
  };
}

function fit(node, change, grown) {
  const [width, high] = node.size;
  const least = node.computeSize()[1];
  const wanted = change > 0 ? Math.max(high, least) : Math.max(least, high - Math.min(grown, -change));
  node.setSize([width, wanted]);
  node.setDirtyCanvas(true, true);
  return Math.max(0, grown + wanted - high);
}
