"use strict";
(() => {
  // A column of a strip is one moment of the movement of all its latents.
  let [moment, timer] = [0, null];
  function drawMovements() {
    for (const canvas of document.querySelectorAll("canvas.movement")) {
      const image = canvas.parentNode.querySelector("img:not([hidden])");
      if (!image.complete || !image.naturalWidth) continue;
      const { values, tile, distance } = JSON.parse(canvas.dataset.movement);
      const last = values - 1;
      const place = moment % (2 * last);
      const column = place <= last ? place : 2 * last - place;
      [canvas.width, canvas.height] = [Math.round(tile * image.naturalWidth), image.naturalHeight];
      canvas.getContext("2d").drawImage(image, -Math.round(column * distance * image.naturalWidth), 0);
    }
  }
  const play = document.getElementById("play");
  play?.addEventListener("click", () => {
    const starts = timer === null;
    if (!starts) clearInterval(timer);
    timer = starts ? setInterval(() => { moment += 1; drawMovements(); }, 100) : null;
    play.setAttribute("aria-pressed", String(starts));
    play.textContent = starts ? "\u23f8 Pause all movements" : "\u25b6 Play all movements";
  });
  for (const image of document.querySelectorAll(".strip img")) image.addEventListener("load", drawMovements);
  drawMovements();
  document.addEventListener("frames", drawMovements);
})();
