// Runs inside the ComfyUI page: opens a workflow in API form and gives its nodes their places.
async ({ api, name, columns, note }) => {
  const COLUMN_GAP = 70;
  const ROW_GAP = 110; // nodes of the newer kind are drawn taller
  const LEFT = 40;
  const TOP = 80;
  const NOTE_SIZE = [480, 270];
  const PICTURES = /^(PreviewImage|PreviewAny|SaveVideo|LoadImage|LoadVideo)$/;

  const sizeOf = (node) => {
    const [width, height] = node.computeSize();
    if (node.type === 'HeadForcingPromptSchedule') {
      const text = node.widgets.find((widget) => widget.name === 'text').value;
      const lines = text.split('\n').reduce((sum, line) => sum + Math.ceil((line.length + 1) / 88), 0);
      return [Math.max(width, 560), Math.max(height, 290 + 14 * lines)];
    }
    return [Math.max(width, 340), PICTURES.test(node.type) ? Math.max(height, 330) : height];
  };

  const app = window.app;
  await app.loadApiJson(api, name);
  const nodes = Object.fromEntries(app.graph.nodes.map((node) => [String(node.id), node]));
  for (const node of Object.values(nodes)) {
    const after = node.widgets?.find((widget) => widget.name === 'control_after_generate');
    if (after) after.value = 'fixed';
  }

  if (note) {
    const words = window.LiteGraph.createNode('MarkdownNote');
    app.graph.add(words);
    words.title = 'About this workflow';
    words.widgets[0].value = note;
    words.pos = [LEFT, TOP];
    words.setSize(NOTE_SIZE);
  }

  let x = LEFT;
  let before = [];
  for (const [column, ids] of columns.entries()) {
    const belowNote = note && column === 0;
    let y = belowNote ? TOP + NOTE_SIZE[1] + ROW_GAP : TOP;
    let widest = belowNote ? NOTE_SIZE[0] : 0;
    for (const id of ids) {
      const node = nodes[id];
      const read = Object.values(api[id].inputs).filter(Array.isArray).map(([source]) => source);
      const beside = read.filter((source) => before.includes(source)).map((source) => nodes[source].pos[1]);
      if (beside.length) y = Math.max(y, Math.min(...beside));
      node.setSize(sizeOf(node));
      node.pos = [x, y];
      y += node.size[1] + ROW_GAP;
      widest = Math.max(widest, node.size[0]);
    }
    x += widest + COLUMN_GAP;
    before = column ? ids : []; // the loaders stand below the note
  }

  app.graph.setDirtyCanvas(true, true);
  return JSON.parse(JSON.stringify(app.graph.serialize()));
};
