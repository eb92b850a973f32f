// The scores of a label map beside the true one, as keras_psp.metrics has them.
(() => {
  "use strict";
  const VOID = 255;

  // How many pixels of each true class (row) were given each class (column).
  KerasPsp.confusionMatrix = (truth, prediction, classes) => {
    const matrix = Array.from({length: classes}, () => Array(classes).fill(0));
    truth.forEach((label, pixel) => {
      if (label !== VOID) matrix[label][prediction[pixel]] += 1;
    });
    return matrix;
  };

  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

  // A class without a true pixel has no score, NaN, and counts in no mean.
  const mean = (numbers) => {
    const known = numbers.filter((number) => !Number.isNaN(number));
    return sum(known) / known.length;
  };

  KerasPsp.scores = (matrix) => {
    const parts = matrix.map((row, label) => {
      const [hits, truth] = [row[label], sum(row)];
      const falseAlarms = sum(matrix.map((other) => other[label])) - hits;
      return {hits, misses: truth - hits, falseAlarms, truth};
    });
    const perClass = (score) => parts.map((part) => (part.truth ? score(part) : NaN));
    const iou = perClass(({hits, misses, falseAlarms}) => hits / (hits + misses + falseAlarms));
    const dice = perClass(({hits, misses, falseAlarms}) =>
      (2 * hits) / (2 * hits + misses + falseAlarms));
    const accuracy = perClass(({hits, truth}) => hits / truth);
    return {
      parts,
      iou,
      dice,
      accuracy,
      meanIou: mean(iou),
      meanAccuracy: mean(accuracy),
      pixelAccuracy: sum(parts.map((part) => part.hits)) / sum(parts.map((part) => part.truth)),
    };
  };

  KerasPsp.figure = (score) => (Number.isNaN(score) ? "–" : score.toFixed(2));
})();
