// Truth and prediction to paint; hits, misses and false alarms; and the scores while one paints.
(() => {
  "use strict";
  const {element, figure} = KerasPsp;
  const [COLUMNS, ROWS] = [20, 14];
  const [ROAD, CAR, POLE] = [0, 1, 2];
  const CLASSES = [
    {name: "Road", color: "rgb(128, 64, 128)"},
    {name: "Car", color: "rgb(64, 0, 128)"},
    {name: "Pole", color: "rgb(192, 192, 128)"},
  ];
  const CASES = {hit: "rgb(0, 114, 178)", miss: "rgb(213, 94, 0)", alarm: "rgb(240, 228, 66)"};
  const TEXTS = {hit: "hits", miss: "misses", alarm: "false alarms"};

  const mapOf = (classAt) =>
    Uint8Array.from({length: ROWS * COLUMNS}, (_, cell) =>
      classAt(cell % COLUMNS, Math.floor(cell / COLUMNS)));

  const street = (x, y) => {
    if (x >= 4 && x < 10 && y >= 7 && y < 11) return CAR;
    return x === 15 && y >= 1 && y < 11 ? POLE : ROAD;
  };

  // The largest class around a cell: car and pole grow by one cell on every side.
  const grown = (x, y) => {
    const around = [-1, 0, 1].flatMap((right) => [-1, 0, 1].map((down) => [x + right, y + down]));
    return Math.max(...around.map((place) => street(...place)));
  };

  const EXAMPLES = {
    "All right": [street, street],
    "One cell off": [street, (x, y) => street(x - 1, y)],
    "Too large": [street, grown],
    "Pole missed": [street, (x, y) => (street(x, y) === CAR ? CAR : ROAD)],
    "All road": [street, () => ROAD],
    "Empty": [() => ROAD, () => ROAD],
  };

  // The lines between cells of different classes, each from x, y to x, y.
  const outlines = (map) => {
    const lines = [];
    for (let y = 0; y < ROWS; y += 1) {
      for (let x = 0; x < COLUMNS; x += 1) {
        const cell = y * COLUMNS + x;
        if (x && map[cell] !== map[cell - 1]) lines.push([x, y, x, y + 1]);
        if (y && map[cell] !== map[cell - COLUMNS]) lines.push([x, y, x + 1, y]);
      }
    }
    return lines;
  };

  const caseOf = (truth, prediction, label) => {
    if (truth === label) return prediction === label ? "hit" : "miss";
    return prediction === label ? "alarm" : null;
  };

  const build = (div) => {
    let maps = {};
    let [label, brush, past, last] = [CAR, 1, [], null];
    const cursor = {x: 6, y: 8};

    // Painting ------------------------------------------------------------------------------------

    const remember = () => {
      past.push({truth: maps.truth.slice(), prediction: maps.prediction.slice()});
      past = past.slice(-100);
    };

    const paint = (name, x, y) => {
      const first = Math.floor((brush - 1) / 2);
      for (let row = y - first; row < y - first + brush; row += 1) {
        for (let column = x - first; column < x - first + brush; column += 1) {
          const inside = row >= 0 && row < ROWS && column >= 0 && column < COLUMNS;
          if (inside) maps[name][row * COLUMNS + column] = label;
        }
      }
    };

    // A quick stroke skips cells: those between its last place and this one belong to it.
    const stroke = (name, x, y) => {
      const from = last || {x, y};
      const steps = Math.max(Math.abs(x - from.x), Math.abs(y - from.y), 1);
      for (let step = 1; step <= steps; step += 1) {
        const part = step / steps;
        const between = (start, end) => Math.round(start + (end - start) * part);
        paint(name, between(from.x, x), between(from.y, y));
      }
      last = {x, y};
    };

    const undo = () => {
      if (past.length) maps = past.pop();
      update();
    };

    // What one sees -------------------------------------------------------------------------------

    const board = (name, title, painted) => {
      const canvas = element("canvas", {
        tabindex: 0,
        role: "application",
        "aria-label": `${title}: ${COLUMNS} columns, ${ROWS} rows. Arrow keys move, space paints.`,
        style: `aspect-ratio: ${COLUMNS} / ${ROWS}`,
      });
      const redraw = KerasPsp.drawing(canvas, (context, width, height) => {
        const [across, down] = [width / COLUMNS, height / ROWS];
        for (let y = 0; y < ROWS; y += 1) {
          for (let x = 0; x < COLUMNS; x += 1) {
            context.fillStyle = colorAt(canvas, name, y * COLUMNS + x);
            context.fillRect(x * across, y * down, across + 0.5, down + 0.5);
          }
        }
        const draw = (lines, color, thick) => {
          context.strokeStyle = color;
          context.lineWidth = thick;
          context.beginPath();
          for (const [left, top, right, bottom] of lines) {
            context.moveTo(left * across, top * down);
            context.lineTo(right * across, bottom * down);
          }
          context.stroke();
        };
        const rows = Array.from({length: ROWS}, (_, y) => [0, y, COLUMNS, y]);
        const columns = Array.from({length: COLUMNS}, (_, x) => [x, 0, x, ROWS]);
        draw([...rows, ...columns], "rgba(255, 255, 255, 0.18)", 1);
        if (name === "prediction") draw(outlines(maps.truth), "white", 2);
        if (canvas.matches(":focus-visible")) {
          const first = Math.floor((brush - 1) / 2);
          const square = [(cursor.x - first) * across, (cursor.y - first) * down];
          for (const [color, thick] of [["black", 4], ["white", 2]]) {
            context.strokeStyle = color;
            context.lineWidth = thick;
            context.strokeRect(...square, brush * across, brush * down);
          }
        }
      });
      KerasPsp.pointing(canvas, (right, down, event) => {
        if (event.type === "pointerdown") {
          remember();
          last = null;
        }
        stroke(painted, Math.floor(right * COLUMNS), Math.floor(down * ROWS));
        update();
      });
      KerasPsp.arrows(canvas, (right, down) => {
        cursor.x = Math.min(Math.max(cursor.x + right, 0), COLUMNS - 1);
        cursor.y = Math.min(Math.max(cursor.y + down, 0), ROWS - 1);
        update(true);
      });
      canvas.addEventListener("keydown", (event) => {
        if (event.key !== " " && event.key !== "Enter") return;
        event.preventDefault();
        remember();
        paint(painted, cursor.x, cursor.y);
        update(true);
      });
      for (const change of ["focus", "blur"]) canvas.addEventListener(change, () => redraw());
      const text = element("figcaption", {}, title);
      return {name, redraw, text, figure: element("figure", {}, canvas, text)};
    };

    const colorAt = (canvas, name, cell) => {
      if (name !== "errors") return CLASSES[maps[name][cell]].color;
      const found = caseOf(maps.truth[cell], maps.prediction[cell], label);
      return found ? CASES[found] : KerasPsp.color(canvas, "rest");
    };

    const boards = [
      board("truth", "Truth", "truth"),
      board("prediction", "Prediction, and outlines of the truth", "prediction"),
      board("errors", "", "prediction"),
    ];
    boards[2].figure.classList.add("iou-errors");

    const examples = Object.keys(EXAMPLES).map((name) =>
      element("button", {type: "button", onclick: () => start(name, true)}, name));
    const classButtons = CLASSES.map(({name, color}, number) => {
      const swatch = element("i", {class: "widget-swatch", style: `background: ${color}`});
      const choose = () => {
        label = number;
        update();
      };
      return element("button", {type: "button", onclick: choose}, swatch, name);
    });
    const brushButtons = [1, 2, 3].map((size) => {
      const choose = () => {
        brush = size;
        update();
      };
      const name = `brush of ${size}×${size} cells`;
      const attributes = {type: "button", onclick: choose, "aria-label": name};
      return element("button", attributes, `${size}×${size}`);
    });
    const undoButton = element("button", {type: "button", onclick: undo}, "Undo");
    div.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.key !== "z") return;
      event.preventDefault();
      undo();
    });

    const bar = () => element("span", {class: "widget-bar"});
    const cells = CLASSES.map(() => CLASSES.map(() => element("td")));
    const perClass = CLASSES.map(() => ({bar: bar(), iou: element("td"), dice: element("td")}));
    const header = (text) => element("th", {scope: "col"}, text);
    const rows = CLASSES.map(({name}, number) => {
      const {bar: length, iou, dice} = perClass[number];
      const head = element("th", {scope: "row"}, name);
      return element("tr", {}, head, ...cells[number], element("td", {}, length), iou, dice);
    });
    const names = CLASSES.map(({name}) => header(name));
    const head = [header("true ↓ called →"), ...names, header("IoU"), header(""), header("Dice")];
    const table = element("table", {class: "iou-matrix"},
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));

    const means = ["mean IoU", "mean accuracy", "pixel accuracy"].map((name) =>
      ({name, bar: bar(), text: element("b")}));
    const meanRows = means.flatMap(({name, bar: length, text}) =>
      [element("span", {}, name), length, text]);
    const output = element("output", {"aria-live": "polite"});

    // Everything that follows from the maps -------------------------------------------------------

    const update = (byKey = false) => {
      const matrix = KerasPsp.confusionMatrix(maps.truth, maps.prediction, CLASSES.length);
      const scores = KerasPsp.scores(matrix);
      const {name} = CLASSES[label];
      matrix.forEach((row, truth) => row.forEach((count, prediction) => {
        cells[truth][prediction].textContent = count;
        cells[truth][prediction].dataset.case = caseOf(truth, prediction, label) || "";
      }));
      perClass.forEach((line, number) => {
        line.bar.style.setProperty("--share", scores.iou[number] || 0);
        line.iou.textContent = figure(scores.iou[number]);
        line.dice.textContent = figure(scores.dice[number]);
      });
      [scores.meanIou, scores.meanAccuracy, scores.pixelAccuracy].forEach((score, number) => {
        means[number].bar.style.setProperty("--share", score);
        means[number].text.textContent = figure(score);
      });

      classButtons.forEach((one, number) => one.setAttribute("aria-pressed", number === label));
      brushButtons.forEach((one, number) => one.setAttribute("aria-pressed", number + 1 === brush));
      undoButton.disabled = !past.length;
      const legend = Object.entries(TEXTS).flatMap(([found, text]) =>
        [element("i", {class: "widget-swatch", style: `background: ${CASES[found]}`}), `${text} `]);
      boards[2].text.replaceChildren(`${name}: `, ...legend);
      for (const {redraw} of boards) redraw();

      const {hits, misses, falseAlarms} = scores.parts[label];
      const sum = `${hits} + ${misses} + ${falseAlarms}`;
      const formula = Number.isNaN(scores.iou[label])
        ? `${name}: no true pixel, so no IoU, and no part in the mean.`
        : `${name}: IoU = hits / (hits + misses + false alarms) = ${hits} / (${sum}) = ` +
          `${figure(scores.iou[label])}.`;
      const cell = cursor.y * COLUMNS + cursor.x;
      const nameIn = (map) => CLASSES[map[cell]].name;
      const place = `Column ${cursor.x + 1}, row ${cursor.y + 1}: ` +
        `${nameIn(maps.truth)}, called ${nameIn(maps.prediction)}. `;
      output.textContent = (byKey ? place : "") + formula;
    };

    const start = (name, undoable) => {
      if (undoable) remember();
      const [truth, prediction] = EXAMPLES[name].map(mapOf);
      maps = {truth, prediction};
      update();
    };

    const group = (name, ...children) =>
      element("div", {role: "group", "aria-label": name, class: "widget-group"},
        element("span", {}, name), ...children);
    div.append(
      element("div", {class: "widget-row"}, group("Start from", ...examples)),
      element("div", {class: "widget-row"}, group("Paint", ...classButtons),
        group("Brush", ...brushButtons), undoButton),
      element("div", {class: "iou-boards"}, ...boards.map((one) => one.figure)),
      element("div", {class: "iou-scores"}, table,
        element("div", {class: "iou-means"}, ...meanRows)),
      output,
    );
    start("One cell off");
  };

  KerasPsp.fill("iou", build);
})();
