// What one cell of a stack of convolutions and poolings sees of a street.
(() => {
  "use strict";
  const {element, labeled, color, whole} = KerasPsp;

  const LIMITS = {kernel: 15, stride: 4, dilation: 64};
  const MARGIN = 40; // pixels around the picture, where the padding is
  const LENS = {most: 40, side: 150}; // enlarges boxes of at most so many pixels to that side
  const MOST_LAYERS = 60;
  const MOST_PATHS = 20_000;
  // The stacks of the tutorial; the networks stand in networks.js.
  const STACKS = [
    {name: "Four 3×3 convolutions", layers: Array(4).fill(["", 3, 1, 1])},
    {name: "Strides 1, 2, 1, 2", layers: [1, 2, 1, 2].map((stride) => ["", 3, stride, 1])},
    {name: "Dilation 1, 2, 4", layers: [1, 2, 4].map((rate) => ["", 3, 1, rate])},
    {name: "Dilation 2, 2, 2", layers: [2, 2, 2].map((rate) => ["", 3, 1, rate])},
  ];

  let groups = 0;

  // Follows size, stride and offset from layer to layer, along one axis. A layer has a kernel, a
  // stride and a dilation; half of what its kernel adds is padded on each side.
  KerasPsp.receptiveField = (layers, pixels) => {
    const found = [];
    let [size, step, offset, cells] = [1, 1, 0, pixels];
    for (const {kernel, stride, dilation} of layers) {
      const reach = dilation * (kernel - 1);
      const padding = Math.floor(reach / 2);
      size += reach * step;
      offset -= padding * step;
      step *= stride;
      cells = Math.floor((cells + 2 * padding - reach - 1) / stride) + 1;
      found.push({size, stride: step, offset, cells});
    }
    return found;
  };

  // The number of paths from each pixel of a row to one cell of the last layer.
  KerasPsp.paths = (layers) => {
    let paths = [1];
    for (const {kernel, stride, dilation} of [...layers].reverse()) {
      const below = Array((paths.length - 1) * stride + dilation * (kernel - 1) + 1).fill(0);
      paths.forEach((count, cell) => {
        for (let tap = 0; tap < kernel; tap += 1) below[cell * stride + tap * dilation] += count;
      });
      paths = below;
    }
    return paths;
  };

  KerasPsp.fill("receptive_field", (div) => {
    const scene = KerasPsp.scenes[0];
    const presets = [...KerasPsp.networks, ...STACKS];
    const group = `receptive-field-${(groups += 1)}`; // the radio buttons of this widget
    let layers, shown, cell; // the table; the layer looked from; [row, column] of its cell

    // What is on the page ------------------------------------------------------------------------

    const preset = element(
      "select",
      {onchange: () => begin(presets[preset.selectedIndex])},
      ...presets.map(({name}) => element("option", {}, name)),
    );
    const add = element("button", {type: "button", onclick: () => addLayer()}, "Add a layer");
    const head = ["layer", "kernel", "stride", "dilation", "field", "step", ""];
    const rows = element("tbody");
    const table = element(
      "table",
      {class: "receptive-field-table", "aria-label": "The layers, from the image on"},
      element("thead", {}, element("tr", {}, ...head.map((name) => element("th", {}, name)))),
      rows,
    );
    const scrolled = element("div", {class: "receptive-field-layers"}, table);
    const picture = element("canvas", {
      tabindex: 0,
      role: "img",
      "aria-label": "The street and the box that the chosen cell sees. Arrow keys choose a cell.",
      style: `aspect-ratio: ${scene.width + 2 * MARGIN} / ${scene.height + 2 * MARGIN}`,
    });
    const bars = element("canvas", {
      class: "receptive-field-paths",
      role: "img",
      "aria-label": "The number of paths from each pixel of one row of the box to the cell",
    });
    const result = element("output", {"aria-live": "polite"});
    div.append(
      element("div", {class: "widget-row"}, labeled("begin with", preset), add),
      element(
        "div",
        {class: "receptive-field-parts"},
        element(
          "div",
          {},
          picture,
          result,
          element("p", {class: "widget-note"}, "How many paths lead from each pixel of a row to the cell:"),
          bars,
        ),
        scrolled,
      ),
    );

    const photo = new Image();
    photo.onload = () => redraw();
    photo.src = scene.image;

    // The table ----------------------------------------------------------------------------------

    function begin({layers: given}) {
      layers = given.map(([name, kernel, stride, dilation]) => ({name, kernel, stride, dilation}));
      makeRows();
      cell = undefined;
      look(layers.length - 1);
    }

    function addLayer() {
      layers.push({name: "", kernel: 3, stride: 1, dilation: 1});
      makeRows();
      look(layers.length - 1);
    }

    function removeLayer(index) {
      layers.splice(index, 1);
      makeRows();
      look(Math.min(shown, layers.length - 1));
      (rows.children[index] || rows.lastChild).querySelector("button").focus();
    }

    // A number of one layer: its kernel, stride or dilation.
    function number(index, kind) {
      const input = element("input", {
        type: "number",
        min: 1,
        max: LIMITS[kind],
        value: layers[index][kind],
        "aria-label": `${kind} of layer ${index + 1}`,
        oninput: () => {
          layers[index][kind] = whole(input);
          update();
        },
        onchange: () => (input.value = layers[index][kind]),
      });
      return element("td", {}, input);
    }

    function makeRows() {
      const made = layers.map(({name}, index) => {
        const radio = element("input", {
          type: "radio",
          name: group,
          "aria-label": `Look from layer ${index + 1}`,
          onchange: () => look(index),
        });
        // Of "stage4_block2/conv2" or "block5_pool" the kind of layer; the rest on hovering.
        const small = element("small", {}, (name.match(/conv|pool/) || [""])[0]);
        const title = element("label", {title: name}, radio, `${index + 1} `, small);
        const remove = element(
          "button",
          {
            type: "button",
            "aria-label": `Remove layer ${index + 1}`,
            disabled: layers.length === 1,
            onclick: () => removeLayer(index),
          },
          "×",
        );
        return element(
          "tr",
          {},
          element("td", {}, title),
          ...Object.keys(LIMITS).map((kind) => number(index, kind)),
          element("td", {class: "receptive-field-size"}),
          element("td", {class: "receptive-field-step"}),
          element("td", {}, remove),
        );
      });
      rows.replaceChildren(...made);
      add.disabled = layers.length >= MOST_LAYERS;
    }

    // Looks from another layer, and scrolls the table, not the page, to its row.
    function look(index) {
      shown = index;
      const row = rows.children[index];
      const above = row.offsetTop - table.tHead.offsetHeight;
      const below = row.offsetTop + row.offsetHeight - scrolled.clientHeight;
      scrolled.scrollTop = Math.min(Math.max(scrolled.scrollTop, below), above);
      update();
    }

    // The chosen cell ----------------------------------------------------------------------------

    const fields = () => {
      const seen = layers.slice(0, shown + 1);
      return [scene.height, scene.width].map((pixels) => KerasPsp.receptiveField(seen, pixels));
    };

    // None where it would take too long: strides multiply.
    const paths = () => {
      const seen = layers.slice(0, shown + 1);
      const {size} = KerasPsp.receptiveField(seen, scene.width).at(-1);
      return size > MOST_PATHS ? [] : KerasPsp.paths(seen);
    };

    function choose(row, column) {
      cell = [row, column];
      update();
    }

    const signed = (number) => String(number).replace("-", "−");

    const within = (place, cells) => Math.max(0, Math.min(place, cells - 1));

    // Where the box of the chosen cell begins and ends, along each axis; the end is behind it.
    const box = (found) =>
      found.map((axis, i) => {
        const {size, stride, offset} = axis.at(-1);
        const start = offset + cell[i] * stride;
        return [start, start + size];
      });

    function update() {
      const found = fields();
      const [down, right] = found.map((axis) => axis.at(-1));
      [...rows.children].forEach((row, index) => {
        row.querySelector("[type=radio]").checked = index === shown;
        row.classList.toggle("chosen", index === shown);
      });
      KerasPsp.receptiveField(layers, scene.width).forEach(({size, stride}, index) => {
        rows.children[index].querySelector(".receptive-field-size").textContent = size;
        rows.children[index].querySelector(".receptive-field-step").textContent = stride;
      });
      if (found.flat().some(({cells}) => cells < 1)) {
        result.textContent = "Nothing is left of the street: take a smaller kernel or stride.";
        redraw();
        return;
      }
      cell = cell || [Math.floor(down.cells / 2), Math.floor(right.cells / 2)];
      cell = [within(cell[0], down.cells), within(cell[1], right.cells)];
      const [[top, bottom], [left, rightmost]] = box(found);
      const inside =
        Math.max(0, Math.min(bottom, scene.height) - Math.max(top, 0)) *
        Math.max(0, Math.min(rightmost, scene.width) - Math.max(left, 0));
      const padding = Math.round(100 * (1 - inside / (down.size * right.size)));
      const holes = paths().filter((count) => !count).length;
      result.replaceChildren(
        element("strong", {}, `${down.size} × ${right.size} pixels`),
        ` are the receptive field of cell (${cell[0]}, ${cell[1]}), one of ` +
          `${down.cells} × ${right.cells} cells of layer ${shown + 1}: ` +
          `rows ${signed(top)} to ${bottom - 1}, columns ${signed(left)} to ${rightmost - 1}. ` +
          `The step from cell to cell is ${right.stride} pixel${right.stride > 1 ? "s" : ""}, ` +
          `and the first cell begins at ${signed(right.offset)} (the offset). ` +
          (padding ? `${padding} % of the box is padding. ` : "") +
          (holes ? `${holes} of the ${right.size} pixels of a row have no path (amber).` : ""),
      );
      redraw();
    }

    // The pictures -------------------------------------------------------------------------------

    const redrawPicture = KerasPsp.drawing(picture, (context, width) => {
      const scale = width / (scene.width + 2 * MARGIN);
      context.scale(scale, scale);
      hatch(context);
      context.translate(MARGIN, MARGIN);
      if (photo.complete) context.drawImage(photo, 0, 0, scene.width, scene.height);
      const found = fields();
      if (found.flat().some(({cells}) => cells < 1)) return;
      grid(context, found, scale);
      const [[top, bottom], [left, right]] = box(found);
      // What the cell does not see is darker.
      const [x0, y0] = [Math.max(left, 0), Math.max(top, 0)];
      context.beginPath();
      context.rect(0, 0, scene.width, scene.height);
      context.rect(x0, y0, Math.min(right, scene.width) - x0, Math.min(bottom, scene.height) - y0);
      context.fillStyle = "rgba(0, 0, 0, 0.45)";
      context.fill("evenodd");
      outline(context, left, top, right - left, bottom - top, scale);
      if (bottom - top <= LENS.most) {
        lens(context, top, left, bottom - top, scale);
        return;
      }
      const [y, x] = [(top + bottom) / 2, (left + right) / 2];
      context.beginPath();
      context.arc(x, y, 5 / scale, 0, 7);
      context.fillStyle = color(div, "mark");
      context.fill();
      context.lineWidth = 1.5 / scale;
      context.strokeStyle = "#fff";
      context.stroke();
    });

    function hatch(context) {
      const [width, height] = [scene.width + 2 * MARGIN, scene.height + 2 * MARGIN];
      context.fillStyle = color(div, "panel");
      context.fillRect(0, 0, width, height);
      context.beginPath();
      for (let x = -height; x < width; x += 12) {
        context.moveTo(x, height);
        context.lineTo(x + height, 0);
      }
      context.strokeStyle = color(div, "line");
      context.lineWidth = 1;
      context.stroke();
    }

    // The cells of the layer, if they are large enough to be seen.
    function grid(context, found, scale) {
      const [down, right] = found.map((axis) => axis.at(-1));
      if (right.stride * scale < 6) return;
      // Each cell is drawn in the middle of what it sees.
      const borders = ({offset, size, stride, cells}, pixels) =>
        Array.from({length: cells + 1}, (_, i) => offset + (size - stride) / 2 + i * stride).filter(
          (border) => border >= 0 && border <= pixels,
        );
      context.beginPath();
      for (const x of borders(right, scene.width)) {
        context.moveTo(x, 0);
        context.lineTo(x, scene.height);
      }
      for (const y of borders(down, scene.height)) {
        context.moveTo(0, y);
        context.lineTo(scene.width, y);
      }
      context.strokeStyle = "rgba(255, 255, 255, 0.35)";
      context.lineWidth = 0.7 / scale;
      context.stroke();
    }

    // A small box, enlarged in the corner that is farther from it; what has no path is amber.
    function lens(context, top, left, size, scale) {
      const x = left + size / 2 < scene.width / 2 ? scene.width - LENS.side : 0;
      const pixel = LENS.side / size;
      context.fillStyle = color(div, "panel"); // the padding
      context.fillRect(x, 0, LENS.side, LENS.side);
      const [x0, y0] = [Math.max(left, 0), Math.max(top, 0)];
      const wide = Math.min(left + size, scene.width) - x0;
      const high = Math.min(top + size, scene.height) - y0;
      const [at, down] = [x + (x0 - left) * pixel, (y0 - top) * pixel];
      context.imageSmoothingEnabled = false;
      if (photo.complete && wide > 0 && high > 0) {
        context.drawImage(photo, x0, y0, wide, high, at, down, wide * pixel, high * pixel);
      }
      context.fillStyle = color(div, "second");
      paths().forEach((count, place) => {
        if (count) return;
        context.fillRect(x + place * pixel, 0, pixel, LENS.side);
        context.fillRect(x, place * pixel, LENS.side, pixel);
      });
      outline(context, x, 0, LENS.side, LENS.side, scale);
    }

    // A line that is seen on bright and on dark.
    function outline(context, x, y, width, height, scale) {
      for (const [line, stroke] of [[4, "#fff"], [2, color(div, "mark")]]) {
        context.lineWidth = line / scale;
        context.strokeStyle = stroke;
        context.strokeRect(x, y, width, height);
      }
    }

    const redrawBars = KerasPsp.drawing(bars, (context, width, height) => {
      const counts = paths();
      const most = Math.max(...counts);
      const step = Math.min(width / counts.length, 24);
      const left = (width - step * counts.length) / 2;
      const gap = step < 4 ? 0 : 1;
      const ratio = window.devicePixelRatio || 1;
      const sharp = (x) => Math.round(x * ratio) / ratio;
      counts.forEach((count, pixel) => {
        const tall = count ? Math.max(2, (count / most) * (height - 14)) : 4;
        const [from, to] = [pixel, pixel + 1].map((place) => sharp(left + place * step));
        context.fillStyle = color(div, count ? "accent" : "second");
        context.fillRect(from, height - tall, to - from - gap, tall);
        if (step < 16) return;
        context.fillStyle = color(div, "text");
        context.textAlign = "center";
        context.font = "11px sans-serif";
        context.fillText(count, left + (pixel + 0.5) * step, height - tall - 3);
      });
    });

    function redraw() {
      redrawPicture();
      redrawBars();
    }

    KerasPsp.pointing(picture, (x, y) => {
      const [down, right] = fields().map((axis) => axis.at(-1));
      const at = (share, pixels, axis) => {
        const pixel = share * (pixels + 2 * MARGIN) - MARGIN;
        return Math.round((pixel - axis.offset - axis.size / 2) / axis.stride);
      };
      choose(at(y, scene.height, down), at(x, scene.width, right));
    });
    KerasPsp.arrows(picture, (right, down) => choose(cell[0] + down, cell[1] + right));

    begin(presets[0]);
  });
})();
