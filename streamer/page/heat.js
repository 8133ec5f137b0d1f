// A heat map over the picture that it was computed from.

// "Inferno" of Matplotlib (public domain, CC0) at eight places: even steps look even, and it stays readable without colour.
const RAMP = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];
// Enlarged in numbers so far, then as a picture: colours between two colours of the ramp need not be on it.
const GRID = 160;

// The colour of `value` (0 to 1) as [red, green, blue].
export function ramp(value) {
  const at = Math.min(1, Math.max(0, value)) * (RAMP.length - 1);
  const from = Math.min(RAMP.length - 2, Math.floor(at));
  return RAMP[from].map((tone, index) => Math.round(tone + (RAMP[from + 1][index] - tone) * (at - from)));
}

// `rows` times `columns` numbers, each standing for the middle of its cell, as `height` times `width` (bilinear).
export function enlarge({ rows, columns, values }, width, height) {
  const found = new Float32Array(width * height);
  const between = (at, size, count) => Math.min(count - 1, Math.max(0, ((at + 0.5) / size) * count - 0.5));
  for (let row = 0; row < height; row++) {
    const y = between(row, height, rows);
    const [top, bottom] = [Math.floor(y), Math.min(rows - 1, Math.floor(y) + 1)];
    for (let column = 0; column < width; column++) {
      const x = between(column, width, columns);
      const [left, right] = [Math.floor(x), Math.min(columns - 1, Math.floor(x) + 1)];
      const [east, south] = [x - left, y - top];
      const upper = values[top * columns + left] * (1 - east) + values[top * columns + right] * east;
      const lower = values[bottom * columns + left] * (1 - east) + values[bottom * columns + right] * east;
      found[row * width + column] = upper * (1 - south) + lower * south;
    }
  }
  return found;
}

// The map as a small canvas, clear where nothing is.
function colours(heat) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = GRID;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(GRID, GRID);
  enlarge(heat, GRID, GRID).forEach((value, index) => {
    const [red, green, blue] = ramp(value);
    image.data.set([red, green, blue, Math.round(255 * Math.min(1, value * 1.6))], index * 4);
  });
  pen.putImageData(image, 0, 0);
  return canvas;
}

// Shows `picture` (an ImageBitmap, of any shape) in the shape [width, height], with a map over it.
export class HeatPicture {
  constructor(canvas, picture, heat, [width, height]) {
    const scale = Math.min(1, 960 / Math.max(width, height));
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    Object.assign(this, { canvas, picture, colours: colours(heat) });
  }

  // opacity: of the map, 0 to 1. The picture steps back as the map comes forward.
  draw(opacity) {
    const pen = this.canvas.getContext("2d");
    const box = [0, 0, this.canvas.width, this.canvas.height];
    pen.imageSmoothingQuality = "high";
    pen.globalAlpha = 1;
    pen.filter = `grayscale(${0.8 * opacity}) brightness(${1 - 0.25 * opacity})`;
    pen.drawImage(this.picture, ...box);
    pen.filter = "none";
    pen.globalAlpha = opacity;
    pen.drawImage(this.colours, ...box);
    pen.globalAlpha = 1;
  }

  free() {
    this.picture.close();
  }
}
