// The arithmetic of convolutions and of what makes maps larger, one cell after the other.
(() => {
  "use strict";
  const {element, labeled, whole} = KerasPsp;

  const range = (length) => Array.from({length}, (_, i) => i);
  const square = (side, value) => range(side).map((i) => range(side).map((j) => value(i, j)));

  // Of each operation, along one axis: the size of its output, its formula; and what one cell of
  // the output is made of: cells of the input, and for each the number of the kernel (its tap) or
  // the weight that it is multiplied by.
  const OPERATIONS = {
    convolution: {
      formula: "⌊(n + 2·p − d·(k − 1) − 1) / s⌋ + 1",
      size: ({n, k, s, d, p}) => Math.floor((n + 2 * p - d * (k - 1) - 1) / s) + 1,
      parts: ({k, s, d, p}, place) => range(k).map((tap) => ({cell: place * s + tap * d - p, tap})),
    },
    transposed: {
      formula: "(n − 1)·s + d·(k − 1) + 1 − 2·p",
      size: ({n, k, s, d, p}) => (n - 1) * s + d * (k - 1) + 1 - 2 * p,
      parts: ({n, k, s, d, p}, place) =>
        range(n)
          .map((cell) => ({cell, tap: (place + p - cell * s) / d}))
          .filter(({tap}) => Number.isInteger(tap) && tap >= 0 && tap < k),
    },
    nearest: {
      parts: ({f}, place) => [{cell: Math.floor(place / f), weight: 1}],
    },
    nails: {
      parts: ({f}, place) => (place % f ? [] : [{cell: place / f, weight: 1}]),
    },
    unpooling: {},
    bilinear: {
      center: ({f}, place) => (place + 0.5) / f - 0.5,
      parts: (options, place) => neighbors(options, OPERATIONS.bilinear.center(options, place)),
    },
    aligned: {
      center: ({n, f}, place) => (n > 1 ? (place * (n - 1)) / (n * f - 1) : 0),
      parts: (options, place) => neighbors(options, OPERATIONS.aligned.center(options, place)),
    },
  };
  for (const operation of Object.values(OPERATIONS)) {
    operation.formula = operation.formula || "f·n";
    operation.size = operation.size || (({n, f}) => f * n);
  }

  // The two cells beside a place; beyond the first and the last center there is only one.
  function neighbors({n}, center) {
    const at = Math.min(Math.max(center, 0), n - 1);
    const first = Math.min(Math.floor(at), Math.max(n - 2, 0));
    const second = at - first;
    return [
      {cell: first, weight: 1 - second},
      {cell: first + 1, weight: second},
    ].filter(({weight}) => weight);
  }

  // Max pooling of blocks of f × f cells: of each block the maximum, and where it is.
  function maxima({n, f}, map) {
    return square(n, (row, column) => {
      let best;
      for (const i of range(f)) {
        for (const j of range(f)) {
          const [y, x] = [row * f + i, column * f + j];
          if (!best || map[y][x] > best.value) best = {value: map[y][x], row: y, column: x};
        }
      }
      return best;
    });
  }

  // One cell of the output: its value, and its terms, each a product of a number of the map and a
  // number of the kernel (at `tap`) or a weight.
  function cellOf(name, options, map, kernel, row, column) {
    if (name === "unpooling") {
      const block = [row, column].map((place) => Math.floor(place / options.f));
      const maximum = maxima(options, map)[block[0]][block[1]];
      const here = maximum.row === row && maximum.column === column;
      return {value: here ? maximum.value : 0, terms: [], block, maximum, here};
    }
    const {parts} = OPERATIONS[name];
    const terms = parts(options, row).flatMap((down) =>
      parts(options, column).map((right) => {
        const at = [down.cell, right.cell];
        const inside = at.every((place) => place >= 0 && place < options.n);
        const tap = down.tap === undefined ? undefined : [down.tap, right.tap];
        const weight = tap ? kernel[tap[0]][tap[1]] : down.weight * right.weight;
        return {at, tap, weight, number: inside ? map[at[0]][at[1]] : 0};
      }),
    );
    return {value: terms.reduce((sum, {number, weight}) => sum + number * weight, 0), terms};
  }

  // The whole output. Options: n, the side of the input; k, s, d, p, those of a convolution; f, how
  // much larger the others make a map. Unpooling takes the map before the pooling, of n · f cells.
  KerasPsp.operate = (name, options, map, kernel) =>
    square(OPERATIONS[name].size(options), (row, column) =>
      cellOf(name, options, map, kernel, row, column).value,
    );

  // What readers choose from ---------------------------------------------------------------------

  const PARTS = {
    n: {word: "input size", min: 1, max: 7},
    k: {word: "kernel", min: 1, max: 5},
    s: {word: "stride", min: 1, max: 4},
    d: {word: "dilation", min: 1, max: 3},
    p: {word: "padding", min: 0, max: 4},
    f: {word: "factor", min: 2, max: 4},
  };
  const CHOICES = [
    ["Convolution", "convolution", {n: 5, k: 3, s: 1, d: 1, p: 0}],
    ["Convolution with padding", "convolution", {n: 5, k: 3, s: 1, d: 1, p: 1}],
    ["Convolution with stride", "convolution", {n: 6, k: 3, s: 2, d: 1, p: 1}],
    ["Dilated convolution", "convolution", {n: 7, k: 3, s: 1, d: 2, p: 0}],
    ["Transposed convolution", "transposed", {n: 2, k: 3, s: 2, d: 1, p: 0}],
    ["Nearest", "nearest", {n: 2, f: 2}],
    ["Bed of nails", "nails", {n: 2, f: 2}],
    ["Max unpooling", "unpooling", {n: 2, f: 2}],
    ["Bilinear, half-pixel centers", "bilinear", {n: 2, f: 2}],
    ["Bilinear, aligned corners", "aligned", {n: 2, f: 2}],
  ];

  // The numbers that maps and kernels begin with.
  const firstMap = (name, {n, f}) => {
    if (name === "convolution") return square(n, (i, j) => (3 * i + 5 * j + i * j) % 4);
    if (name === "unpooling") return square(n * f, (i, j) => (5 * i + 3 * j + 2 * i * j) % 10);
    return square(n, (i, j) => i * n + j + 1);
  };
  const firstKernel = (name, {k}) => {
    if (name === "convolution") return square(k, (i, j) => (i + 2 * j) % 3);
    const tent = (i) => Math.min(i + 1, k - i);
    return square(k, (i, j) => tent(i) * tent(j));
  };

  // A number with at most so many decimals, and with a real minus.
  const written = (number, decimals = 4) =>
    String(Number(number.toFixed(decimals))).replace("-", "−");
  const factor = (number) => (number < 0 ? `(${written(number)})` : written(number));
  const times = (side) => `${side} × ${side}`;

  const PAUSE = 900; // milliseconds from one cell to the next

  KerasPsp.fill("convolution", (div) => {
    let name, options, map, kernel, output, place, timer;

    // What is on the page ------------------------------------------------------------------------

    const choice = element(
      "select",
      {onchange: () => begin(CHOICES[choice.selectedIndex])},
      ...CHOICES.map(([title]) => element("option", {}, title)),
    );
    const inputs = {};
    for (const [letter, {word, min, max}] of Object.entries(PARTS)) {
      const input = element("input", {
        type: "number",
        min,
        max,
        oninput: () => resize(letter, whole(input)),
        onchange: () => (input.value = options[letter]),
      });
      inputs[letter] = labeled(`${word} ${letter}`, input);
    }
    const button = (text, onclick, label) =>
      element("button", {type: "button", onclick, "aria-label": label}, text);
    const boards = {
      map: board("input"),
      kernel: board("kernel"),
      pooled: board("pooled"),
      output: board("output"),
    };
    const table = element(
      "div",
      {class: "convolution-boards"},
      ...Object.values(boards).map(({figure}) => figure),
    );
    const play = button("Play", () => (timer ? pause() : run()));
    const slider = element("input", {
      type: "range",
      min: 0,
      oninput: () => show(Number(slider.value)),
    });
    const arithmetic = element("div");
    const formula = element("div");
    const result = element("output", {"aria-live": "polite"}, arithmetic, formula);
    div.append(
      element("div", {class: "widget-row"}, labeled("operation", choice), ...Object.values(inputs)),
      table,
      element(
        "div",
        {class: "widget-row convolution-player"},
        button("◀", () => show(Math.max(place - 1, 0)), "One cell back"),
        play,
        button("▶", () => show(Math.min(place + 1, output.length ** 2 - 1)), "One cell on"),
        labeled("cell of the output", slider),
        button("All ones", () => fill(1)),
        button("Reset the numbers", () => fill()),
      ),
      result,
    );

    function board(title) {
      const grid = element("div", {class: "convolution-grid", role: "group", "aria-label": title});
      const caption = element("figcaption");
      KerasPsp.arrows(grid, (right, down) => move(grid, right, down));
      return {grid, caption, figure: element("figure", {}, caption, grid)};
    }

    // The numbers --------------------------------------------------------------------------------

    function begin([, chosen, given]) {
      pause();
      [name, options] = [chosen, {...given}];
      for (const [letter, label] of Object.entries(inputs)) {
        label.hidden = !(letter in options);
        label.querySelector("input").value = options[letter] ?? "";
      }
      fill();
    }

    function fill(value) {
      map = firstMap(name, options);
      kernel = options.k ? firstKernel(name, options) : [];
      if (value) [map, kernel] = [map, kernel].map((one) => square(one.length, () => value));
      place = 0;
      build();
    }

    // Takes another size, stride, …; what fits of the reader's own numbers stays.
    function resize(letter, number) {
      options[letter] = number;
      const kept = (before, after) =>
        square(after.length, (i, j) => (before[i] && before[i][j]) ?? after[i][j]);
      map = kept(map, firstMap(name, options));
      if (options.k) kernel = kept(kernel, firstKernel(name, options));
      build();
    }

    // The cells, whose number has changed.
    function build() {
      const padding = name === "convolution" ? options.p : 0;
      const side = map.length + 2 * padding;
      lay(boards.map, side, (row, column) => {
        const [i, j] = [row - padding, column - padding];
        const inside = i >= 0 && j >= 0 && i < map.length && j < map.length;
        return inside ? number(map, i, j, "input") : still("padding", "0");
      });
      lay(boards.kernel, kernel.length, (row, column) => number(kernel, row, column, "kernel"));
      lay(boards.pooled, name === "unpooling" ? options.n : 0, () => still());
      const cells = Math.max(OPERATIONS[name].size(options), 0);
      lay(boards.output, cells, (row, column) =>
        element("button", {
          type: "button",
          class: "convolution-cell",
          tabindex: -1,
          onclick: () => show(row * cells + column),
        }),
      );
      slider.max = Math.max(cells ** 2 - 1, 0);
      place = Math.min(Math.max(place, 0), Number(slider.max));
      const title = {map: "input", kernel: "kernel", pooled: "pooled", output: "output"};
      if (name === "unpooling") title.map = "before the pooling";
      for (const [key, {caption, grid}] of Object.entries(boards)) {
        const length = key === "map" ? map.length : Math.sqrt(grid.children.length);
        caption.textContent = `${title[key]}, ${times(length)}`;
      }
      if (padding) boards.map.caption.textContent += `, padding ${padding}`;
      fit();
      compute();
    }

    function lay({grid, figure}, side, cell) {
      figure.hidden = !side;
      grid.style.setProperty("--columns", side);
      grid.replaceChildren(...square(side, cell).flat());
    }

    const still = (kind = "", text = "") => {
      const shown = element("b", {}, text);
      return element("span", {class: `convolution-cell ${kind}`}, shown, element("small"));
    };

    // A number that the reader changes.
    function number(numbers, row, column, word) {
      const input = element("input", {
        type: "text",
        inputmode: word === "kernel" ? "text" : "decimal",
        autocomplete: "off",
        value: numbers[row][column],
        tabindex: row || column ? -1 : 0,
        "aria-label": `${word}, row ${row}, column ${column}`,
        onfocus: () => input.select(),
        oninput: () => {
          numbers[row][column] = Number(input.value.replace(",", ".").replace("−", "-")) || 0;
          compute();
        },
        onblur: () => (input.value = written(numbers[row][column])),
      });
      return element("span", {class: "convolution-cell"}, input, element("small"));
    }

    // The arrow keys move from cell to cell, as in a spreadsheet.
    function move(grid, right, down) {
      const cells = [...grid.children];
      const side = Math.sqrt(cells.length);
      const index = cells.findIndex((cell) => cell.contains(document.activeElement));
      const [row, column] = [Math.floor(index / side) + down, (index % side) + right];
      if (row < 0 || column < 0 || row >= side || column >= side) return;
      const next = cells[row * side + column];
      const focusable = next.matches("button") ? next : next.querySelector("input");
      if (focusable) focusable.focus();
      if (focusable === next) show(row * side + column);
    }

    // Cells as large as there is room for: all boards in a row; or the output below the rest, or
    // each below the other, where cells would be too small.
    function fit() {
      const sides = Object.values(boards).map(({grid}) => Math.sqrt(grid.children.length));
      const {columnGap, fontSize} = getComputedStyle(table);
      const large = 2.4 * parseFloat(fontSize);
      const across = (row) => {
        const shown = row.filter((side) => side);
        const room = table.clientWidth - (shown.length - 1) * parseFloat(columnGap) - 4;
        return room / shown.reduce((sum, side) => sum + side, 0);
      };
      const below = Math.min(across(sides.slice(0, -1)), across(sides.slice(-1)));
      const ways = [across(sides), below, Math.min(...sides.map((side) => across([side])))];
      const cell = ways.find((width) => width > 0.8 * large) || ways.at(-1);
      table.style.setProperty("--cell", `${Math.floor(Math.min(cell, 1.25 * large))}px`);
    }
    new ResizeObserver(fit).observe(table);

    // The chosen cell ----------------------------------------------------------------------------

    function compute() {
      output = KerasPsp.operate(name, options, map, kernel);
      const most = Math.max(...output.flat().map(Math.abs), 0);
      output.flat().forEach((value, index) => {
        const cell = boards.output.grid.children[index];
        const [row, column] = [Math.floor(index / output.length), index % output.length];
        cell.textContent = written(value, 2);
        cell.setAttribute("aria-label", `row ${row}, column ${column}: ${written(value)}`);
        cell.classList.toggle("negative", value < 0);
        const share = most ? Math.round((45 * Math.abs(value)) / most) : 0;
        cell.style.setProperty("--share", `${share}%`);
      });
      if (name === "unpooling") {
        maxima(options, map).flat().forEach(({value}, index) => {
          boards.pooled.grid.children[index].querySelector("b").textContent = written(value);
        });
      }
      show(place);
    }

    function show(index) {
      place = index;
      slider.value = index;
      const side = output.length;
      formula.replaceChildren(...size());
      if (!side) {
        arithmetic.textContent = "The kernel does not fit into the input: nothing is left.";
        return;
      }
      const [row, column] = [Math.floor(index / side), index % side];
      slider.setAttribute("aria-valuetext", `row ${row}, column ${column}`);
      [...boards.output.grid.children].forEach((cell, other) => {
        cell.classList.toggle("chosen", other === index);
        cell.classList.toggle("later", Boolean(timer) && other > index);
        cell.tabIndex = other === index ? 0 : -1;
      });
      const found = cellOf(name, options, map, kernel, row, column);
      for (const cell of table.querySelectorAll(".meets, .maximum")) {
        cell.classList.remove("meets", "maximum");
        if (cell.querySelector("small")) cell.querySelector("small").textContent = "";
      }
      const mark = (key, at, kind = "meets") => {
        const {grid} = boards[key];
        const shift = key === "map" && name === "convolution" ? options.p : 0;
        const columns = Math.sqrt(grid.children.length);
        const cell = grid.children[(at[0] + shift) * columns + at[1] + shift];
        cell.classList.add(kind);
        return cell;
      };
      for (const {at, tap, weight} of found.terms) {
        mark("map", at).querySelector("small").textContent = `·${written(weight, 3)}`;
        if (tap) mark("kernel", tap);
      }
      if (found.maximum) {
        const {f} = options;
        for (const i of range(f)) {
          for (const j of range(f)) mark("map", [found.block[0] * f + i, found.block[1] * f + j]);
        }
        mark("map", [found.maximum.row, found.maximum.column], "maximum");
        mark("pooled", found.block);
      }
      arithmetic.replaceChildren(
        element("strong", {}, `Row ${row}, column ${column}: ${written(found.value)}`),
        ...sentences(found, row, column),
      );
    }

    // How the value of a cell comes about.
    function sentences({value, terms, maximum, here}, row, column) {
      if (maximum) {
        const at = `row ${maximum.row}, column ${maximum.column}`;
        return [
          here
            ? `. Here the pooling found the maximum of the block, so it goes back here.`
            : `. The pooling found the maximum of this block, ${written(maximum.value)}, at ${at}.`,
        ];
      }
      const {center} = OPERATIONS[name];
      const products = terms.map(({number, weight}) => `${factor(number)}·${factor(weight)}`);
      const said = [products.length ? ` = ${products.join(" + ")}` : ". No number comes here."];
      if (name === "transposed" && terms.length) {
        const copies = terms.length;
        said.push(copies > 1 ? `. ${copies} copies of the kernel overlap here.` : ". One copy.");
      }
      if (center) {
        const [y, x] = [row, column].map((cell) => written(center(options, cell), 3));
        said.push(`. Its center lies at row ${y}, column ${x} of the input.`);
      }
      return said;
    }

    function size() {
      const {formula: letters} = OPERATIONS[name];
      const filled = letters.replace(/[a-z]/g, (letter) => options[letter]);
      const found = element("strong", {}, written(OPERATIONS[name].size(options)));
      return [`Size of the output: ${letters} = ${filled} = `, found];
    }

    // From cell to cell --------------------------------------------------------------------------

    function run() {
      if (place >= output.length ** 2 - 1) place = 0;
      timer = setInterval(() => {
        if (place >= output.length ** 2 - 1) pause();
        else show(place + 1);
      }, PAUSE);
      play.textContent = "Pause";
      show(place);
    }

    function pause() {
      clearInterval(timer);
      timer = undefined;
      play.textContent = "Play";
      if (output && output.length) show(place);
    }

    begin(CHOICES[0]);
  });
})();
