// Runs inside the ComfyUI page: what is wrong with how the open graph is laid out, in sentences; as it is drawn now.
async (titles) => {
  const SCALE = 0.25; // of the picture in which links are looked for
  const EDGE = 8; // so much of a node's border does not count
  const FRAMES = 8; // until all that has come into view is drawn
  const TITLE = 30; // above what a node's place and size say

  const { app } = window;
  const { graph } = app;
  const board = app.canvas.canvas.getBoundingClientRect();
  const ends = (axis) => graph.nodes.flatMap((node) => [node.pos[axis] - 100, node.pos[axis] + node.size[axis] + 100]);
  const [xs, ys] = [ends(0), ends(1)];
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  app.canvas.ds.scale = Math.min(board.width / (high - low), board.height / (Math.max(...ys) - Math.min(...ys)));
  app.canvas.ds.offset = [-low, -Math.min(...ys)];
  app.canvas.setDirty(true, true);
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  for (let count = 0; count < FRAMES; count += 1) await drawn();

  const { scale, offset } = app.canvas.ds;
  const rectangle = (node) => {
    const [x, y] = node.pos;
    const [width, height] = node.size;
    const element = window.LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`);
    if (!element) return { left: x, top: y - TITLE, right: x + width, bottom: y + height };
    const box = element.getBoundingClientRect();
    const left = (box.left - board.left) / scale - offset[0];
    const top = (box.top - board.top) / scale - offset[1];
    return { left, top, right: left + box.width / scale, bottom: top + box.height / scale };
  };
  const nodes = graph.nodes.map((node) => ({ id: node.id, name: `${node.id} ${node.title}`, ...rectangle(node) }));
  const groups = graph.groups.map(({ title, pos, size }) => ({
    name: title, left: pos[0], top: pos[1], right: pos[0] + size[0], bottom: pos[1] + size[1],
  }));
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const isIn = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
  const pairs = (all) => all.flatMap((one, index) => all.slice(index + 1).map((other) => [one, other]));
  const problems = [...pairs(nodes), ...pairs(groups)]
    .filter(([one, other]) => meet(one, other))
    .map(([one, other]) => `${one.name} lies on ${other.name}`);
  for (const node of nodes) {
    const touched = groups.filter((group) => meet(node, group));
    if (touched.some((group) => !isIn(node, group))) problems.push(`${node.name} stands out of ${touched[0].name}`);
    if (!touched.length && !node.name.endsWith('About this workflow')) problems.push(`${node.name} is in no group`);
  }
  const order = [...groups].sort((a, b) => a.left - b.left).map((group) => titles.indexOf(group.name));
  if (order.some((place, index) => place < 0 || place <= order[index - 1])) problems.push('groups are out of order');

  const left = Math.min(...nodes.map((node) => node.left));
  const top = Math.min(...nodes.map((node) => node.top)) - 400;
  const width = Math.ceil((Math.max(...nodes.map((node) => node.right)) - left) * SCALE);
  const height = Math.ceil((Math.max(...nodes.map((node) => node.bottom)) - top + 400) * SCALE);
  const picture = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  for (const link of graph.links.values()) {
    const parts = [link];
    for (let id = link.parentId; id != null; id = graph.reroutes.get(id).parentId) parts.push(graph.reroutes.get(id));
    picture.setTransform(1, 0, 0, 1, 0, 0);
    picture.clearRect(0, 0, width, height);
    picture.setTransform(SCALE, 0, 0, SCALE, -left * SCALE, -top * SCALE);
    picture.lineWidth = 2 / SCALE;
    if (parts.some((part) => !part.path)) problems.push(`link ${link.id} is not drawn`);
    for (const part of parts) if (part.path) picture.stroke(part.path);
    const pixels = picture.getImageData(0, 0, width, height).data;
    if (!pixels.some((value) => value)) problems.push(`link ${link.id} is not in the picture`);
    for (const node of nodes) {
      if (node.id === link.origin_id || node.id === link.target_id) continue;
      const [x0, x1] = [node.left + EDGE, node.right - EDGE].map((x) => Math.round((x - left) * SCALE));
      const [y0, y1] = [node.top + EDGE, node.bottom - EDGE].map((y) => Math.round((y - top) * SCALE));
      const covered = () => {
        for (let y = y0; y < y1; y += 1) {
          for (let x = x0; x < x1; x += 1) if (pixels[4 * (y * width + x) + 3]) return true;
        }
        return false;
      };
      if (covered()) problems.push(`link ${link.id} from ${link.origin_id} to ${link.target_id} runs under ${node.name}`);
    }
  }
  return problems;
};
