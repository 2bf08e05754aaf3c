// Runs inside the ComfyUI page before its own scripts; page.py calls these functions.
(() => {
  const EVENTS = ['execution_start', 'execution_cached', 'executing', 'progress', 'progress_state', 'progress_text',
    'b_preview_with_metadata', 'executed', 'execution_success', 'execution_error', 'execution_interrupted'];
  const LAST = { execution_success: 'success', execution_error: 'error', execution_interrupted: 'interrupted' };
  const events = [];
  let listening = false;

  // structured enough for JSON: images are reported by their size in bytes
  const plain = (value) => JSON.parse(JSON.stringify(value ?? null, (_, v) => (v instanceof Blob ? v.size : v)));

  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parts = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    if (element.matches('.dom-widget')) return window.LiteGraph.NODE_DEFAULT_BGCOLOR; // lies on the canvas
    const colour = getComputedStyle(element).backgroundColor;
    return parts(colour)[3] === 255 ? colour : behind(element.parentElement);
  };

  const find = (wanted) => {
    const nodes = window.app.graph.nodes;
    const found = nodes.filter((node) => String(node.id) === wanted || node.type === wanted || node.title === wanted);
    if (found.length !== 1) {
      const all = nodes.map((node) => `${node.id} ${node.type} "${node.title}"`).join(', ');
      throw new Error(`${found.length} nodes match ${wanted}; the graph has: ${all}`);
    }
    return found[0];
  };

  const setWidget = (node, name, value) => {
    const widget = node.widgets?.find((each) => each.name === name);
    if (!widget) {
      const names = (node.widgets ?? []).map((each) => each.name).join(', ');
      throw new Error(`${node.type} has no widget ${name}; it has: ${names}`);
    }
    widget.value = value;
    widget.callback?.(value);
  };

  window.headForcingTest = {
    // true once the page takes input: earlier signs, such as app.vueAppReady, come too soon
    isReady: () => {
      const manager = window.app?.extensionManager;
      const types = Object.keys(window.LiteGraph?.registered_node_types ?? {}).length;
      const covered = document.querySelector('.p-blockui-mask') !== null;
      return Boolean(types > 100 && manager?.spinner === false && manager.workflow?.activeWorkflow && !covered);
    },

    loadWorkflow: async ({ workflow, name }) => {
      await window.app.loadGraphData(workflow, true, true, name);
    },

    missingTypes: (workflow) => {
      const subgraphs = workflow.definitions?.subgraphs ?? [];
      const known = new Set([...Object.keys(window.LiteGraph.registered_node_types), ...subgraphs.map((s) => s.id)]);
      const nodes = [...workflow.nodes, ...subgraphs.flatMap((subgraph) => subgraph.nodes)];
      return [...new Set(nodes.map((node) => node.type))].filter((type) => !known.has(type)).sort();
    },

    setWidget: ({ node, widget, value }) => setWidget(find(node), widget, value),

    replaceNodes: ({ oldType, newType, widgets }) => {
      const graph = window.app.graph;
      const olds = graph.nodes.filter((node) => node.type === oldType);
      for (const old of olds) {
        const node = window.LiteGraph.createNode(newType);
        if (!node) throw new Error(`the page knows no node ${newType}`);
        node.pos = [...old.pos];
        graph.add(node);
        for (const [name, value] of Object.entries(widgets)) setWidget(node, name, value);
        old.outputs.forEach((output, slot) => {
          for (const id of [...(output.links ?? [])]) {
            const link = graph.links.get(id);
            node.connect(slot, graph.getNodeById(link.target_id), link.target_slot);
          }
        });
        graph.remove(old);
      }
      return olds.length;
    },

    apiPrompt: async () => plain((await window.app.graphToPrompt()).output),

    queue: async () => {
      if (!listening) {
        for (const type of EVENTS) {
          window.app.api.addEventListener(type, (event) => events.push({ type, detail: plain(event.detail) }));
        }
        listening = true;
      }
      events.length = 0;
      return await window.app.queuePrompt(0, 1);
    },

    hasEnded: () => events.some((event) => event.type in LAST),

    report: () => ({ outcome: LAST[events.find((event) => event.type in LAST)?.type], events }),

    nodeErrors: () => plain(window.app.extensionManager.lastNodeErrors),

    contrasts: (selector) => {
      const texts = [...document.querySelectorAll(selector)].filter((element) => element.textContent);
      return Object.fromEntries(texts.map((element) => {
        const colours = [getComputedStyle(element).color, behind(element)];
        const [low, high] = colours.map(light).sort((a, b) => a - b);
        return [element.className, (high + 0.05) / (low + 0.05)];
      }));
    },

    fitView: async () => {
      await window.app.extensionManager.command.execute('Comfy.Canvas.FitView');
    },
  };
})();
