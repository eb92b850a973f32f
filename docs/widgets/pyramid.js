// PSPNet's pyramid over a street: what each cell averages, and what each level knows of a place.
(() => {
  "use strict";
  const {element} = KerasPsp;
  const SIDE = 8; // a place of the deepest map stands for so many pixels a side
  const LEVELS = ["#e69f00", "#56b4e9", "#00c08b", "#ff8ac4"]; // their outlines

  // The first row or column of each of `bins` cells, and the one behind its last.
  KerasPsp.cells = (size, bins) =>
    Array.from({length: bins}, (_, cell) =>
      [Math.floor((cell * size) / bins), Math.ceil(((cell + 1) * size) / bins)]);

  // Averages a map {values, height, width, channels} over bins × bins cells.
  KerasPsp.pooled = ({values, height, width, channels}, bins) => {
    const pooled = new Float64Array(bins * bins * channels);
    const columns = KerasPsp.cells(width, bins);
    KerasPsp.cells(height, bins).forEach(([top, bottom], row) => {
      columns.forEach(([left, right], column) => {
        const start = (row * bins + column) * channels;
        for (let y = top; y < bottom; y += 1) {
          for (let place = y * width + left; place < y * width + right; place += 1) {
            for (let channel = 0; channel < channels; channel += 1) {
              pooled[start + channel] += values[place * channels + channel];
            }
          }
        }
        const area = (bottom - top) * (right - left);
        for (let channel = 0; channel < channels; channel += 1) pooled[start + channel] /= area;
      });
    });
    return {values: pooled, height: bins, width: bins, channels};
  };

  // Bilinear interpolation in which the corners stay: for each new row, two old ones and a weight.
  const between = (size, newSize) =>
    Array.from({length: newSize}, (_, position) => {
      const exact = newSize > 1 ? (position * (size - 1)) / (newSize - 1) : 0;
      const first = Math.min(Math.floor(exact), size - 1);
      return [first, Math.min(first + 1, size - 1), exact - first];
    });

  KerasPsp.enlarged = ({values, height, width, channels}, newHeight, newWidth) => {
    const enlarged = new Float64Array(newHeight * newWidth * channels);
    const columns = between(width, newWidth);
    let next = 0;
    for (const [top, bottom, down] of between(height, newHeight)) {
      for (const [left, right, across] of columns) {
        for (let channel = 0; channel < channels; channel += 1) {
          const at = (row, column) => values[(row * width + column) * channels + channel];
          const above = at(top, left) * (1 - across) + at(top, right) * across;
          const below = at(bottom, left) * (1 - across) + at(bottom, right) * across;
          enlarged[next++] = above * (1 - down) + below * down;
        }
      }
    }
    return {values: enlarged, height: newHeight, width: newWidth, channels};
  };

  // The deepest map of an image: the mean of the `channels` that `valuesOf(pixel)` has, for each
  // 8×8 pixels.
  const deepest = ({height, width}, channels, valuesOf) => {
    const [rows, columns] = [height / SIDE, width / SIDE];
    const values = new Float64Array(rows * columns * channels);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const place = Math.floor(y / SIDE) * columns + Math.floor(x / SIDE);
        valuesOf(y * width + x).forEach((value, channel) => {
          values[place * channels + channel] += value / SIDE ** 2;
        });
      }
    }
    return {values, height: rows, width: columns, channels};
  };

  const canvasOf = ({height, width}) => {
    const canvas = element("canvas");
    Object.assign(canvas, {width, height});
    return canvas;
  };

  // A map of colors as a small picture, a pixel for each place.
  const picture = ({values, height, width}) => {
    const canvas = canvasOf({height, width});
    const data = new ImageData(width, height);
    for (let place = 0; place < height * width; place += 1) {
      data.data.set([...values.slice(place * 3, place * 3 + 3).map(Math.round), 255], place * 4);
    }
    canvas.getContext("2d").putImageData(data, 0, 0);
    return canvas;
  };

  const rgb = (color) => `rgb(${Array.from(color, Math.round).join(", ")})`;
  const classes = [...KerasPsp.classes, {name: "void", color: [0, 0, 0]}];

  const build = (div) => {
    const place = {row: 34, column: 24};
    let scene, colors, shares, source;

    // What is averaged ----------------------------------------------------------------------------

    const load = async () => {
      scene = KerasPsp.scenes[sceneSelect.value];
      const loaded = scene;
      const image = new Image();
      image.src = scene.image;
      await image.decode();
      if (loaded !== scene) return; // meanwhile, another one was chosen
      source = canvasOf(scene);
      const context = source.getContext("2d", {willReadFrequently: true});
      context.drawImage(image, 0, 0);
      const labelAt = (pixel) => Math.min(scene.truth[pixel], classes.length - 1);
      const {data} = context.getImageData(0, 0, scene.width, scene.height);
      if (whatSelect.value === "classes") {
        for (let pixel = 0; pixel < scene.truth.length; pixel += 1) {
          data.set(classes[labelAt(pixel)].color, pixel * 4);
        }
        context.putImageData(new ImageData(data, scene.width), 0, 0);
      }
      const colorAt = (pixel) => data.subarray(pixel * 4, pixel * 4 + 3);
      colors = deepest(scene, 3, colorAt);
      shares = deepest(scene, classes.length, (pixel) =>
        classes.map((_, label) => Number(label === labelAt(pixel))));
      update();
    };

    // A level's cells that hold the chosen place: one, or more where cells overlap.
    const chosen = ({bins}) => {
      const rows = KerasPsp.cells(colors.height, bins);
      const columns = KerasPsp.cells(colors.width, bins);
      const holding = (ends, position) =>
        ends.flatMap(([start, end], cell) => (start <= position && position < end ? [cell] : []));
      return holding(rows, place.row).flatMap((row) =>
        holding(columns, place.column).map((column) => {
          const [[top, bottom], [left, right]] = [rows[row], columns[column]];
          return {cell: row * bins + column, top, bottom, left, right};
        }));
    };

    // What one sees -------------------------------------------------------------------------------

    const outline = (context, across, down, {top, bottom, left, right}, color) => {
      for (const [paint, thick] of [["black", 4], [color, 2]]) {
        context.strokeStyle = paint;
        context.lineWidth = thick;
        const corner = [left * across + 1.5, top * down + 1.5];
        context.strokeRect(...corner, (right - left) * across - 3, (bottom - top) * down - 3);
      }
    };

    const board = (label, draw) => {
      const canvas = element("canvas", {
        tabindex: 0,
        role: "application",
        "aria-label": `${label}. Arrow keys move the chosen place.`,
      });
      const redraw = KerasPsp.drawing(canvas, (context, width, height) => {
        if (!colors) return;
        const [across, down] = [width / colors.width, height / colors.height];
        context.imageSmoothingQuality = "high";
        draw(context, width, height, across, down);
        const {row, column} = place;
        const dot = {top: row, bottom: row + 1, left: column, right: column + 1};
        context.fillStyle = "black";
        context.fillRect(column * across - 2, row * down - 2, across + 4, down + 4);
        context.fillStyle = "white";
        context.fillRect(dot.left * across, dot.top * down, across, down);
      });
      const go = (row, column) => {
        if (!colors) return;
        place.row = Math.min(Math.max(row, 0), colors.height - 1);
        place.column = Math.min(Math.max(column, 0), colors.width - 1);
        update(false);
      };
      KerasPsp.pointing(canvas, (x, y) =>
        go(Math.floor(y * colors.height), Math.floor(x * colors.width)));
      KerasPsp.arrows(canvas, (right, down) => go(place.row + down, place.column + right));
      return {canvas, redraw};
    };

    const main = board("Street and cells", (context, width, height, ...cell) => {
      context.drawImage(source, 0, 0, width, height);
      for (const level of levels) {
        for (const box of chosen(level)) outline(context, ...cell, box, level.color);
      }
    });

    const levels = [1, 2, 3, 6].map((bins, number) => {
      const level = {bins, color: LEVELS[number]};
      const input = element("input", {type: "number", min: 1, max: 20, value: bins});
      input.addEventListener("change", () => {
        input.value = level.bins = KerasPsp.whole(input);
        update();
      });
      const {canvas, redraw} = board("A level of the pyramid", (context, width, height, ...cell) => {
        context.imageSmoothingEnabled = smooth.checked;
        context.drawImage(level.picture, 0, 0, width, height);
        for (const box of chosen(level)) outline(context, ...cell, box, level.color);
      });
      const swatch = element("i", {class: "widget-swatch", style: `background: ${level.color}`});
      const head = element("label", {class: "pyramid-head"}, element("span", {}, swatch,
        "level, cells a side"), input);
      const facts = element("div");
      const column = element("div", {}, head, canvas, facts);
      return Object.assign(level, {redraw, facts, column});
    });

    const factsOf = (level) => chosen(level).map(({cell, top, bottom, left, right}) => {
      const part = level.shares.values.slice(cell * classes.length, (cell + 1) * classes.length);
      const sorted = classes.map(({name, color}, label) => ({name, color, share: part[label]}))
        .filter(({share}) => share > 0).sort((one, other) => other.share - one.share);
      const bars = sorted.map(({name, color, share}) => {
        const style = `background: ${rgb(color)}; flex-grow: ${share}`;
        return element("i", {style, title: `${name} ${share.toFixed(2)}`});
      });
      const largest = sorted.slice(0, 3).filter(({share}) => share >= 0.005);
      const names = largest.map(({name, share}) => `${name} ${share.toFixed(2)}`);
      const mean = level.colors.values.slice(cell * 3, cell * 3 + 3);
      const swatch = element("i", {class: "widget-swatch", style: `background: ${rgb(mean)}`});
      return element("p", {}, swatch, `rows ${top}–${bottom - 1}, columns ${left}–${right - 1}`,
        element("span", {class: "pyramid-shares"}, ...bars), names.join(", "));
    });

    const update = (again = true) => {
      if (!colors) return;
      for (const level of levels) {
        if (again) {
          level.colors = KerasPsp.pooled(colors, level.bins);
          level.shares = KerasPsp.pooled(shares, level.bins);
          const size = [colors.height, colors.width];
          level.picture = picture(smooth.checked
            ? KerasPsp.enlarged(level.colors, ...size)
            : level.colors);
        }
        level.redraw();
        level.facts.replaceChildren(...factsOf(level));
      }
      main.redraw();
      const area = ({top, bottom, left, right}) => (bottom - top) * (right - left);
      const areas = levels.map((level) => chosen(level).map(area).join(" + "));
      const size = `${colors.height}×${colors.width}`;
      output.textContent = `Row ${place.row}, column ${place.column} of a map of ${size} places. ` +
        `For it, the levels average ${areas.join(", ")} places.`;
    };

    const options = (names) => names.map(([value, name]) => element("option", {value}, name));
    const sceneSelect = element("select", {onchange: load},
      ...options(KerasPsp.scenes.map(({name}, number) => [number, name])));
    sceneSelect.value = 1; // the street of the tutorial
    const whatSelect = element("select", {onchange: load},
      ...options([["picture", "its colors"], ["classes", "its true classes"]]));
    const smooth = element("input", {type: "checkbox", checked: true, onchange: () => update()});
    const output = element("output", {"aria-live": "polite"});
    div.append(
      element("div", {class: "widget-row"}, KerasPsp.labeled("street", sceneSelect),
        KerasPsp.labeled("average", whatSelect),
        KerasPsp.labeled("enlarge the levels, as the head gets them", smooth)),
      main.canvas,
      output,
      element("div", {class: "pyramid-levels"}, ...levels.map(({column}) => column)),
    );
    main.canvas.classList.add("pyramid-street");
    load();
  };

  KerasPsp.fill("pyramid", build);
})();
