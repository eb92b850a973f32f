// Two views of a street under a divider: image, truth, prediction, errors; and the scores.
(() => {
  "use strict";
  const {element, figure, classes, colors, VOID} = KerasPsp;
  const VIEWS = ["image", "truth", "prediction", "errors"];
  const [GRAY, DIM] = [200, 0.2]; // this share of their color is left to classes not chosen

  // The color of every pixel of a view, as in keras_psp.visualization: `label` is the class whose
  // hits, misses and false alarms are shown, null all of them.
  KerasPsp.view = (name, {truth, prediction}, label) => {
    const view = new Uint8ClampedArray(truth.length * 4);
    const errorAt = (true_, called) => {
      if (true_ === VOID) return colors.void_color;
      if (label === null) return true_ === called ? colors.right : colors.wrong;
      if (true_ === label) return called === label ? colors.hit : colors.miss;
      return called === label ? colors.false_alarm : colors.right;
    };
    const classAt = (shown) => {
      if (shown === VOID) return colors.void_color;
      const {color} = classes[shown];
      if (label === null || shown === label) return color;
      return color.map((part) => GRAY + DIM * (part - GRAY));
    };
    const map = {truth, prediction}[name];
    for (let pixel = 0; pixel < truth.length; pixel += 1) {
      const color = map ? classAt(map[pixel]) : errorAt(truth[pixel], prediction[pixel]);
      view.set(color, pixel * 4);
      view[pixel * 4 + 3] = 255;
    }
    return view;
  };

  const swatch = (color) =>
    element("i", {class: "widget-swatch", style: `background: rgb(${color.join(", ")})`});

  const build = (div) => {
    let [scene, image, scores, label, part] = [null, null, null, null, 0.5];
    let views = {};

    const viewOf = (name) => {
      if (name === "image") return image;
      if (!views[name]) {
        views[name] = element("canvas");
        Object.assign(views[name], {width: scene.width, height: scene.height});
        const data = new ImageData(KerasPsp.view(name, scene, label), scene.width);
        views[name].getContext("2d").putImageData(data, 0, 0);
      }
      return views[name];
    };

    // The divided picture -------------------------------------------------------------------------

    const canvas = element("canvas", {
      class: "slider-picture",
      tabindex: 0,
      role: "slider",
      "aria-label": "Divider",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    });
    const redraw = KerasPsp.drawing(canvas, (context, width, height) => {
      if (!image) return;
      const middle = part * width;
      const half = (name, left, right, end) => {
        context.save();
        context.beginPath();
        context.rect(left, 0, right - left, height);
        context.clip();
        context.imageSmoothingEnabled = name === "image";
        context.drawImage(viewOf(name), 0, 0, width, height);
        context.font = "600 13px sans-serif";
        const wide = context.measureText(name).width + 12;
        const x = end ? width - wide - 6 : 6;
        context.fillStyle = "rgba(0, 0, 0, 0.65)";
        context.fillRect(x, 6, wide, 22);
        context.fillStyle = "white";
        context.fillText(name, x + 6, 22);
        context.restore();
      };
      half(leftSelect.value, 0, middle, false);
      half(rightSelect.value, middle, width, true);
      for (const [color, thick] of [["black", 5], ["white", 3]]) {
        context.fillStyle = color;
        context.fillRect(middle - thick / 2, 0, thick, height);
        context.beginPath();
        context.arc(middle, height / 2, 12 + thick / 2, 0, 2 * Math.PI);
        context.fill();
      }
      context.fillStyle = "black";
      for (const side of [-1, 1]) {
        context.beginPath();
        context.moveTo(middle + side * 9, height / 2);
        context.lineTo(middle + side * 3, height / 2 - 6);
        context.lineTo(middle + side * 3, height / 2 + 6);
        context.fill();
      }
    });
    const slide = (to) => {
      part = Math.min(Math.max(to, 0), 1);
      const percent = Math.round(part * 100);
      const text = `${leftSelect.value} up to ${percent} %, then ${rightSelect.value}`;
      canvas.setAttribute("aria-valuenow", percent);
      canvas.setAttribute("aria-valuetext", text);
      redraw();
    };
    KerasPsp.pointing(canvas, slide);
    KerasPsp.arrows(canvas, (right, down) => slide(part + (right - down) / 50));

    // Scores and classes --------------------------------------------------------------------------

    const chips = classes.map(({name, color}, number) => {
      const choose = () => {
        label = label === number ? null : number;
        views = {};
        update();
      };
      const score = element("b");
      const parts = [swatch(color), `${name} `, score];
      const button = element("button", {type: "button", onclick: choose}, ...parts);
      return {button, score};
    });

    const update = () => {
      if (!scores) return;
      chips.forEach(({button, score}, number) => {
        button.setAttribute("aria-pressed", number === label);
        score.textContent = figure(scores.iou[number]);
      });
      slide(part);

      const whole =
        `Mean IoU ${figure(scores.meanIou)}, pixel accuracy ${figure(scores.pixelAccuracy)}.`;
      if (label === null) {
        output.textContent = whole;
        return;
      }
      const {hits, misses, falseAlarms} = scores.parts[label];
      const counts = [
        [colors.hit, `${hits} hits, `],
        [colors.miss, `${misses} misses, `],
        [colors.false_alarm, `${falseAlarms} false alarms: `],
      ].flatMap(([color, text]) => [swatch(color), text]);
      const {name} = classes[label];
      const iou = Number.isNaN(scores.iou[label])
        ? "no true pixel, so no IoU, and no part in the mean."
        : `IoU ${figure(scores.iou[label])}.`;
      output.replaceChildren(`${whole} ${name}: `, ...counts, iou);
    };

    const load = async () => {
      const chosen = (scene = KerasPsp.scenes[sceneSelect.value]);
      views = {};
      const loaded = new Image();
      loaded.src = chosen.image;
      await loaded.decode();
      if (chosen !== scene) return; // meanwhile, another one was chosen
      image = loaded;
      const matrix = KerasPsp.confusionMatrix(scene.truth, scene.prediction, classes.length);
      scores = KerasPsp.scores(matrix);
      update();
    };

    const options = (names) => names.map(([value, name]) => element("option", {value}, name));
    const sceneSelect = element("select", {onchange: load},
      ...options(KerasPsp.scenes.map(({name}, number) => [number, name])));
    const sideSelect = (value) => {
      const views = options(VIEWS.map((name) => [name, name]));
      const select = element("select", {onchange: () => slide(part)}, ...views);
      select.value = value;
      return select;
    };
    const [leftSelect, rightSelect] = [sideSelect("image"), sideSelect("prediction")];
    const output = element("output", {"aria-live": "polite"});
    div.append(
      element("div", {class: "widget-row"}, KerasPsp.labeled("street", sceneSelect),
        KerasPsp.labeled("left", leftSelect), KerasPsp.labeled("right", rightSelect)),
      canvas,
      element("div", {class: "widget-row widget-group", role: "group", "aria-label": "classes"},
        element("span", {}, "IoU of each class; choose one to see it alone"),
        ...chips.map(({button}) => button)),
      output,
    );
    load();
  };

  KerasPsp.fill("slider", build);
})();
