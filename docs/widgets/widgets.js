// What all widgets share. Each is a classic script that calls KerasPsp.fill("its_name", build).
window.KerasPsp = window.KerasPsp || {};

(() => {
  "use strict";

  // Fills every <div class="widget" data-widget="NAME"> of the page. What it held before is what
  // readers without JavaScript see.
  KerasPsp.fill = (name, build) => {
    for (const div of document.querySelectorAll(`.widget[data-widget="${name}"]`)) {
      div.replaceChildren();
      build(div);
    }
  };

  // An HTML element: element("button", {type: "button", onclick: play}, "Play").
  KerasPsp.element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };

  // An input or select with its label: labeled("kernel", element("input", {type: "number"})).
  KerasPsp.labeled = (text, input) =>
    KerasPsp.element("label", {}, KerasPsp.element("span", {}, text), input);

  // A whole number that an input holds, within the input's limits; its minimum if it holds none.
  KerasPsp.whole = (input) => {
    const number = Math.round(Number(input.value)) || 0;
    return Math.min(Math.max(number, Number(input.min)), Number(input.max));
  };

  // The color of a name in widgets.css: color(div, "accent") is its --widget-accent.
  KerasPsp.color = (element, name) =>
    getComputedStyle(element).getPropertyValue(`--widget-${name}`).trim();

  // Draws on a canvas, and again whenever its size or the color scheme changes. `draw` gets the
  // context and the canvas' width and height in CSS pixels. Returns what draws it again by hand.
  KerasPsp.drawing = (canvas, draw) => {
    const redraw = () => {
      const {clientWidth: width, clientHeight: height} = canvas;
      if (!width) return;
      const ratio = window.devicePixelRatio || 1;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      draw(context, width, height);
    };
    new ResizeObserver(redraw).observe(canvas);
    const scheme = {attributes: true, attributeFilter: ["data-md-color-scheme"]};
    new MutationObserver(redraw).observe(document.body, scheme);
    return redraw;
  };

  // Calls `at(x, y, event)` where a canvas is pressed and dragged, by mouse, pen or finger; x and y
  // go from 0 to 1.
  KerasPsp.pointing = (canvas, at) => {
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, event);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) point(event);
    });
  };

  // Calls `move(right, down)` for the arrow keys, each -1, 0 or 1, while the focus is here.
  KerasPsp.arrows = (focused, move) => {
    const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    focused.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      move(...steps[event.key]);
    });
  };
})();
