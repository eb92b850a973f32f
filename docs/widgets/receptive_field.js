// What one cell of a stack of convolutions and poolings sees of the image.
(() => {
  "use strict";

  // Follows size, stride and offset from layer to layer, along one axis. A layer is {kernel, stride,
  // dilation}; half of what its kernel adds is padded on each side.
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
})();
