// The network at work, beside the page, which does not freeze meanwhile. It answers two messages:
// "load", and a photo {pixels, height, width}.
"use strict";

let session;

// Reads a file of this folder, and tells the page of every part that has come.
async function read(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`The server has no ${name} (${answer.status}).`);
  const reader = answer.body.getReader();
  const parts = [];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    postMessage({came: part.value.length});
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function load() {
  importScripts("ort.wasm.min.js"); // defines ort
  ort.env.wasm.numThreads = 1; // More need headers that few servers of static pages send.
  ort.env.wasm.wasmBinary = await read("ort-wasm-simd-threaded.wasm");
  session = await ort.InferenceSession.create(await read("pspnet.onnx"));
  return {ready: true};
}

async function segment({pixels, height, width}) {
  const start = performance.now();
  const image = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const {classes} = await session.run({image});
  const seconds = (performance.now() - start) / 1000;
  return {labels: classes.data, height: classes.dims[1], width: classes.dims[2], seconds};
}

onmessage = async ({data}) => {
  try {
    postMessage(data === "load" ? await load() : await segment(data));
  } catch (error) {
    postMessage({error: error.message ?? String(error)});
  }
};
