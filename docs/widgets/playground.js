// PSPNet in the reader's browser: what the reader sees. docs/playground/worker.js runs the network.
(() => {
  "use strict";
  const {element, labeled, arrows} = KerasPsp;
  const folder = new URL("../playground/", document.currentScript.src);
  const MOST_PIXELS = 40e6; // In floating point, they have to find room in memory.

  // The smallest program with a SIMD instruction, a function that returns sixteen zeros.
  const SIMD = new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15,
    11,
  ]);

  // Why the network cannot run here, or nothing.
  const obstacle = (missing) => {
    if (location.protocol === "file:") {
      return "The network needs a server, and this page was opened as a file. Run “python -m " +
        "http.server” in the folder of the site, and open http://localhost:8000.";
    }
    if (missing.length) {
      return "This copy of the site was built without the network, or without what runs it. " +
        `${missing.join(" ")} Then build the site again.`;
    }
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
      return "The network needs a browser that has WebAssembly with SIMD. Use a newer one.";
    }
  };

  // The pixels of a picture, upright: RGB, row by row.
  const read = (photo) => {
    const {naturalWidth: width, naturalHeight: height} = photo;
    const context = element("canvas", {width, height}).getContext("2d");
    context.fillRect(0, 0, width, height);
    context.drawImage(photo, 0, 0);
    const {data} = context.getImageData(0, 0, width, height); // four bytes for each pixel
    // Where a canvas is too large for a browser, some leave it empty.
    if (width * height > MOST_PIXELS || data[3] === 0) {
      const millions = Math.round(width * height / 1e6);
      throw new Error(`The photo is too large: ${millions} million pixels. Use a smaller one.`);
    }
    const pixels = new Uint8Array(width * height * 3);
    for (let from = 0, to = 0; to < pixels.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
    return {pixels, height, width};
  };

  // Asks the worker, and waits for its answer. `came` hears of bytes that came.
  const ask = (worker, question, came) => new Promise((resolve, reject) => {
    worker.onmessage = ({data}) => {
      if (data.came) came(data.came);
      else if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    worker.onerror = (event) => reject(new Error(event.message || "The server has no worker.js."));
    worker.postMessage(question);
  });

  // Draws a label map in the colors of the classes.
  const paint = (canvas, {labels, height, width}, colors) => {
    [canvas.width, canvas.height] = [width, height];
    const image = new ImageData(width, height);
    labels.forEach((label, i) => image.data.set([...colors[label], 255], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  KerasPsp.fill("playground", (div) => {
    const {bytes, classes, scenes, missing} = JSON.parse(div.dataset.settings);
    const total = Object.values(bytes).reduce((sum, size) => sum + size, 0);
    const megabytes = (size) => (size / 1e6).toFixed(1);

    // What the reader sees.
    const thumbnails = Object.entries(scenes).map(([file, words]) => {
      const src = new URL(file, folder).href;
      const image = element("img", {src, alt: `A drawn street: ${words}`});
      return element("button", {type: "button", onclick: () => show(src)}, image);
    });
    const own = element("input", {type: "file", accept: "image/*"});
    const start = element("button", {type: "button"}, `Load the network (${megabytes(total)} MB)`);
    const bar = element("progress", {max: total, value: 0, hidden: true, "aria-label": "download"});
    const state = element("p", {role: "status"});
    const fault = element("p", {role: "alert"});
    let photo = element("img", {alt: ""});
    const map = element("canvas", {
      tabindex: 0, role: "img", "aria-label": "Classes. The arrow keys move the mark.",
    });
    const mark = element("span", {class: "playground-mark", hidden: true});
    const picture = element("div", {class: "playground-picture"}, photo, map, mark);
    const under = element("output", {}, "Point at the picture to read its classes.");
    const opacity = element("input", {type: "range", min: 0, max: 1, step: 0.05, value: 0.6});
    const save = element("button", {type: "button", disabled: true}, "Save the classes as PNG");
    const shares = classes.map(() => element("td", {}, "–"));
    const rows = classes.map(([name, color], label) => element("tr", {},
      element("td", {}, element("span", {style: `background-color: rgb(${color})`})),
      element("th", {scope: "row"}, name), shares[label]));
    const legend = element("table", {class: "playground-classes"}, ...rows);
    div.append(
      element("div", {class: "playground-scenes"}, ...thumbnails),
      labeled("or a photo of your own: choose it, paste it, or drop it here", own),
      element("div", {class: "playground-state"}, start, bar, state, fault),
      element("div", {class: "playground-parts"},
        element("div", {}, picture, under,
          element("div", {class: "widget-row"}, labeled("opacity of the classes", opacity), save)),
        legend));

    const reason = obstacle(missing) || "";
    let worker, answer, wanted, busy = false;
    let [x, y] = [0.5, 0.7]; // the mark, from 0 to 1

    const load = async () => {
      [start.hidden, bar.hidden, bar.value, fault.textContent] = [true, false, 0, ""];
      map.focus({preventScroll: true});
      const begun = new Worker(new URL("worker.js", folder));
      try {
        await ask(begun, "load", (came) => {
          bar.value += came;
          state.textContent = bar.value < total
            ? `${megabytes(bar.value)} of ${megabytes(total)} MB`
            : "The network starts …";
        });
        worker = begun;
        await run();
      } catch (error) {
        begun.terminate();
        [start.hidden, state.textContent, fault.textContent] = [false, "", error.message];
      }
      bar.hidden = true;
    };

    // Another picture may be chosen while the network still looks at one: that one comes next.
    const run = async () => {
      if (!worker || busy) return;
      busy = true;
      try {
        let seen;
        while (seen !== photo) {
          seen = photo;
          state.textContent = "The network looks …";
          answer = await ask(worker, read(photo));
        }
        tell();
      } catch (error) {
        [state.textContent, fault.textContent] = ["", error.message];
      }
      busy = false;
    };

    const tell = () => {
      const {labels, height, width, seconds} = answer;
      paint(map, answer, classes.map(([, color]) => color));
      const counts = classes.map(() => 0);
      for (const label of labels) counts[label]++;
      counts.forEach((count, label) => {
        shares[label].textContent = `${(100 * count / labels.length).toFixed(1)} %`;
      });
      state.textContent =
        `Answered in ${seconds.toFixed(1)} s. The network saw ${height}×${width} pixels.`;
      [mark.hidden, save.disabled] = [false, false];
      point(x, y);
    };

    // Moves the mark, and names the class there.
    const point = (right, down) => {
      [x, y] = [right, down].map((at) => Math.min(Math.max(at, 0), 0.9999));
      [mark.style.left, mark.style.top] = [`${100 * x}%`, `${100 * y}%`];
      if (!answer) return;
      const [row, column] = [Math.floor(y * answer.height), Math.floor(x * answer.width)];
      const label = answer.labels[row * answer.width + column];
      under.textContent = `${classes[label][0]}, in row ${row} and column ${column}`;
      rows.forEach((one, number) => one.classList.toggle("chosen", number === label));
    };

    const show = async (src) => {
      wanted = src;
      const next = element("img", {src, alt: "The picture that the network sees"});
      fault.textContent = reason;
      try {
        await next.decode();
      } catch {
        fault.textContent = "The browser cannot read this file. Use a JPEG, PNG or WebP.";
        return;
      }
      if (wanted !== src) return;
      photo.replaceWith(next);
      photo = next;
      picture.style.maxWidth = `${26 * photo.naturalWidth / photo.naturalHeight}rem`;
      [answer, map.width, mark.hidden, save.disabled] = [null, 1, true, true];
      if (worker) state.textContent = "";
      shares.forEach((share) => { share.textContent = "–"; });
      thumbnails.forEach((one) => one.setAttribute("aria-pressed", one.firstChild.src === src));
      run();
    };

    const take = (files) => files.length && show(URL.createObjectURL(files[0]));

    start.addEventListener("click", load);
    own.addEventListener("change", () => take(own.files));
    document.addEventListener("paste", (event) => take(event.clipboardData.files));
    div.addEventListener("dragover", (event) => event.preventDefault());
    div.addEventListener("drop", (event) => {
      event.preventDefault();
      take(event.dataTransfer.files);
    });
    for (const kind of ["pointermove", "pointerdown"]) {
      map.addEventListener(kind, (event) => {
        const box = map.getBoundingClientRect();
        point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      });
    }
    arrows(map, (right, down) => point(x + right / 40, y + down / 40));
    opacity.addEventListener("input", () => { map.style.opacity = opacity.value; });
    save.addEventListener("click", () => map.toBlob((blob) => {
      element("a", {href: URL.createObjectURL(blob), download: "classes.png"}).click();
    }));

    start.hidden = reason !== "";
    map.style.opacity = opacity.value;
    show(thumbnails[0].firstChild.src);
  });
})();
