// Runs inside the ComfyUI page: opens a workflow in API form and gives its nodes their places, in groups from left to
// right. A link that passes a column runs above it, on a lane of its own.
async ({ api, name, groups, note, heights, models }) => {
  const COLUMN_GAP = 130;
  const ROW_GAP = 70;
  const LEFT = 40;
  const TOP = 80;
  const TITLE = 60; // of a group
  const PADDING = 30; // between a group's edge and what is in it
  const LANE = 26;
  const BEND = 14; // from lane to lane, where they turn down
  const FAR_DOWN = 400;
  const NODE_TITLE = 30;
  const NOTE_SIZE = [480, 330];
  const PICTURES = /^(PreviewImage|PreviewAny|SaveVideo|LoadImage|LoadVideo)$/;

  const widthOf = (node) => Math.max(node.computeSize()[0], node.type === 'HeadForcingPromptSchedule' ? 560 : 340);
  const textHeight = (node) => {
    const text = node.widgets.find((widget) => widget.name === 'text').value;
    return 290 + 14 * text.split('\n').reduce((sum, line) => sum + Math.ceil((line.length + 1) / 88), 0);
  };
  /** [saved, reserved]: a node stays as high as it is saved, or grows to what its widgets need. */
  const heightsOf = (node) => {
    const [least, most] = heights[node.id];
    if (node.type === 'HeadForcingPromptSchedule') return [textHeight(node), Math.max(most, textHeight(node))];
    return PICTURES.test(node.type) ? [330, Math.max(most, 330)] : [least, most];
  };

  const app = window.app;
  await app.loadApiJson(api, name);
  const { graph } = app;
  const nodes = Object.fromEntries(graph.nodes.map((node) => [String(node.id), node]));
  for (const node of Object.values(nodes)) {
    const after = node.widgets?.find((widget) => widget.name === 'control_after_generate');
    if (after) after.value = 'fixed';
    const named = models.filter((model) => node.widgets?.some((widget) => widget.value === model.name));
    if (named.length) node.properties.models = named;
  }

  const columns = groups.flatMap(({ columns }) => columns);
  const columnOf = Object.fromEntries(columns.flatMap((ids, column) => ids.map((id) => [id, column])));
  const lanes = lanesOf();
  const laneTop = TOP + TITLE;
  const nodeTop = laneTop + Math.max(0, ...lanes.map(({ lane }) => lane + 1)) * LANE + NODE_TITLE;

  let x = LEFT;
  if (note) {
    const words = window.LiteGraph.createNode('MarkdownNote');
    graph.add(words);
    words.title = 'About this workflow';
    words.widgets[0].value = note;
    words.pos = [LEFT, TOP + NODE_TITLE];
    words.setSize(NOTE_SIZE);
    x += NOTE_SIZE[0] + COLUMN_GAP;
  }
  const lefts = columns.map((ids) => {
    const left = x;
    const width = Math.max(...ids.map((id) => widthOf(nodes[id])));
    let y = nodeTop;
    for (const id of ids) {
      const [saved, reserved] = heightsOf(nodes[id]);
      nodes[id].setSize([width, saved]);
      nodes[id].pos = [left, y];
      nodes[id].reserved = y + reserved;
      y += reserved + ROW_GAP;
    }
    x += width + COLUMN_GAP;
    return left;
  });
  for (const lane of lanes) draw(lane);
  for (const { title, columns } of groups) {
    const within = columns.flat().map((id) => nodes[id]);
    const left = Math.min(...within.map((node) => node.pos[0])) - PADDING;
    const right = Math.max(...within.map((node) => node.pos[0] + node.size[0])) + PADDING;
    const group = new window.LiteGraph.LGraphGroup(title);
    group.pos = [left, TOP];
    group.size = [right - left, Math.max(...within.map((node) => node.reserved)) + PADDING - TOP];
    graph.add(group);
  }
  for (const node of graph.nodes) delete node.reserved;

  graph.setDirtyCanvas(true, true);
  return JSON.parse(JSON.stringify(graph.serialize()));

  /** Of every output that leads past a column: its links by the column that they lead to, and its lane. */
  function lanesOf() {
    const found = new Map();
    for (const link of graph.links.values()) {
      const [from, to] = [columnOf[link.origin_id], columnOf[link.target_id]];
      if (to <= from + 1) continue;
      const key = `${link.origin_id} ${link.origin_slot}`;
      if (!found.has(key)) found.set(key, { from, to, links: [] });
      const output = found.get(key);
      output.to = Math.max(output.to, to);
      output.links.push({ link, to });
    }
    const ends = []; // the column in which each lane is free again
    const sorted = [...found.values()].sort((a, b) => a.from - b.from || b.to - a.to);
    for (const output of sorted) {
      const free = ends.findIndex((end) => end <= output.from);
      output.lane = free < 0 ? ends.length : free;
      ends[output.lane] = output.to;
    }
    return sorted;
  }

  /** Bend the links of an output: up to its lane behind its own column, down before each column that they lead to. */
  function draw({ from, links, lane }) {
    const y = laneTop + lane * LANE;
    const bend = (column, back) => [lefts[column] - back, y];
    const all = links.map(({ link }) => link);
    let before = bendTogether(all, bend(from + 1, 40 + BEND * lane), undefined);
    const targets = [...new Set(links.map(({ to }) => to))].sort((a, b) => a - b);
    for (const to of targets) {
      const further = links.filter((each) => each.to >= to).map(({ link }) => link);
      before = bendTogether(further, bend(to, COLUMN_GAP - 30 - BEND * lane), before);
      for (const { link } of links.filter((each) => each.to === to)) drop(link, before);
    }
  }

  /** A link that leads far down bends once more beside its input: one curve would swing out over its neighbours. */
  function drop(link, before) {
    const [, y] = graph.getNodeById(link.target_id).getInputPos(link.target_slot);
    if (y - before.pos[1] > FAR_DOWN) bendTogether([link], [before.pos[0], y], before);
  }

  function bendTogether(links, pos, before) {
    const reroute = graph.setReroute({ pos, parentId: before?.id, linkIds: links.map((link) => link.id) });
    for (const link of links) link.parentId = reroute.id;
    return reroute;
  }
};
