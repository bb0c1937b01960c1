"use strict";
(async () => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const byId = (id) => document.getElementById(id);
  const [stage, canvas, message, slider] = ["stage", "slices", "message", "slice"].map(byId);
  const fail = (text) => { message.textContent = text; document.documentElement.dataset.state = "failed"; };
  if (!canvas.getContext("webgl2")) {
    return fail("This browser has no WebGL 2, which this page needs. The picture below shows some slices.");
  }

  // Axes 0, 1, 2 run to the patient's Left, Posterior, Superior. NiiVue reverses the first two.
  const planes = {
    axial: { axis: 2, type: 0 }, coronal: { axis: 1, type: 1 },
    sagittal: { axis: 0, type: 2 }, all: { axis: 2, type: 3 },
  };
  const choose = (name, value) => { document.querySelector(`input[name=${name}][value=${value}]`).checked = true; };
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const isShown = (layer) => document.querySelector(`input[name=layer][value=${layer}]`).checked;
  const opacity = { prediction: 0.6, truth: 1, uncertainty: 1 };

  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], isRadiologicalConvention: true, isNearestInterpolation: true,
    dragAndDropEnabled: false, loadingText: "", multiplanarShowRender: 0, multiplanarPadPixels: 12, crosshairWidth: 0,
    crosshairColor: [1, 1, 1, 0.6], crosshairGap: 12, logLevel: "silent", showAllOrientationMarkers: true,
    clipPlaneHotKey: "", viewModeHotKey: "",
  });
  try {
    await viewer.attachToCanvas(canvas);
    const load = (name) => niivue.NVImage.loadFromBase64({ base64: byId("volume-" + name).textContent, name: name + ".nii.gz" });
    const grey = await load(chosen("modality"));
    const images = { [chosen("modality")]: grey.img };
    // NiiVue's double click sets the limits to the robust ones.
    Object.assign(grey, { cal_min: 0, cal_max: 255, robust_min: 0, robust_max: 255 });
    const rgb = (code) => [1, 3, 5].map((i) => parseInt(code.slice(i, i + 2), 16));
    const colours = settings.colours.map(rgb), channel = (c) => colours.map((colour) => colour[c]);
    const classes = { R: channel(0), G: channel(1), B: channel(2), A: [0, 255, 255, 255], I: [0, 1, 2, 3] };
    const [r, g, b] = rgb(settings.uncertaintyColour);
    viewer.addColormap("uncertainty", { R: [r, r], G: [g, g], B: [b, b], A: [255, 255], I: [0, 255] });
    const layers = {};
    for (const name of settings.layers) {
      layers[name] = await load(name);
      if (name !== "uncertainty") layers[name].setColormapLabel(classes);
      // In this order: setting the colour map resets the limits.
      else Object.assign(layers[name], { colormap: "uncertainty", cal_min: 0, cal_max: 255, modulateAlpha: 1 });
    }
    viewer.addVolume(grey);
    const truth = layers.truth && Uint8Array.from(layers.truth.img);

    // The truth is drawn as an outline: labels with a different neighbour in the plane.
    function outline(axes) {
      const steps = [1, settings.shape[0], settings.shape[0] * settings.shape[1]], edge = layers.truth.img;
      edge.fill(0);
      truth.forEach((label, i) => {
        if (label && axes.some((a) => truth[i - steps[a]] !== label || truth[i + steps[a]] !== label)) edge[i] = label;
      });
    }

    // Positions in the whole scan; the embedded part begins at `offset`.
    const { shape, offset, start } = settings;
    const place = [...start];
    const plane = () => planes[chosen("plane")];
    const fraction = (axis, index) => {
      const within = index - offset[axis];
      return ((axis < 2 ? shape[axis] - 1 - within : within) + 0.5) / shape[axis];
    };
    const position = (axis, fraction) => {
      const at = Math.max(0, Math.min(shape[axis] - 1, Math.floor(fraction * shape[axis])));
      return offset[axis] + (axis < 2 ? shape[axis] - 1 - at : at);
    };
    function describe() {
      const { axis } = plane(), last = offset[axis] + shape[axis] - 1;
      Object.assign(slider, { min: offset[axis], max: last, value: place[axis] });
      const name = chosen("plane") === "all" ? "axial" : chosen("plane");
      byId("where").textContent = `${name} slice ${place[axis]}, counted from 0; the head is in slices ${settings.head[axis].join(" to ")}`;
      slider.setAttribute("aria-valuetext", `${name} slice ${place[axis]}`);
    }
    function show() {
      viewer.scene.crosshairPos = place.map((index, axis) => fraction(axis, index));
      viewer.drawScene();
      describe();
    }
    function go(index) {
      const { axis } = plane();
      place[axis] = Math.max(offset[axis], Math.min(offset[axis] + shape[axis] - 1, index));
      show();
    }
    const step = (by) => go(place[plane().axis] + by);
    function setPlane() {
      const { axis, type } = plane();
      viewer.setCrosshairWidth(type === 3 ? 0.7 : 0);
      viewer.setSliceType(type);
      if (truth) outline(type === 3 ? [0, 1, 2] : [0, 1, 2].filter((a) => a !== axis));
      if (truth && isShown("truth")) setLayers();
      show();
    }
    function setLayers() {
      const shown = settings.layers.filter(isShown);
      for (const name of shown) layers[name].opacity = opacity[name];
      // One layer stays, with opacity 0: NiiVue does not clear the last one.
      if (!shown.length) layers[settings.layers[0]].opacity = 0;
      viewer.overlays = (shown.length ? shown : settings.layers.slice(0, 1)).map((name) => layers[name]);
      viewer.volumes = [grey, ...viewer.overlays];
      // The values of the uncertainty are its opacity.
      if (layers.uncertainty) layers.uncertainty.modulationImage = viewer.volumes.indexOf(layers.uncertainty);
      viewer.updateGLVolume();
    }
    async function setModality() {
      const name = chosen("modality");
      images[name] ??= (await load(name)).img;
      if (chosen("modality") !== name) return; // the user has selected another one meanwhile
      grey.img = images[name];
      viewer.updateGLVolume();
    }

    // NiiVue handles mouse and wheel on the canvas and reports the new position.
    viewer.onLocationChange = ({ frac }) => {
      for (const axis of [0, 1, 2]) place[axis] = position(axis, frac[axis]);
      describe();
    };
    slider.addEventListener("input", () => go(Number(slider.value)));
    byId("back").addEventListener("click", () => step(-1));
    byId("on").addEventListener("click", () => step(1));
    for (const [name, changed] of [["plane", setPlane], ["layer", setLayers], ["modality", setModality]]) {
      for (const input of document.querySelectorAll(`input[name=${name}]`)) input.addEventListener("change", changed);
    }
    // After a click the arrows change slices; from the keyboard they change the choice. A click that
    // the keyboard makes has no detail.
    for (const input of document.querySelectorAll("input[type=radio]")) input.addEventListener("click", (event) => { if (event.detail) input.blur(); });

    // Zooms by `factor` and moves the point at `from` (window coordinates) to `to`. NiiVue draws a
    // point at p mm where z p + pan would be without zoom.
    function zoom(from, to, factor) {
      const { left, top } = canvas.getBoundingClientRect(), dpr = canvas.width / canvas.clientWidth;
      const mm = ([x, y]) => viewer.screenXY2mm((x - left) * dpr, (y - top) * dpr);
      const [p, q] = [mm(from), mm(to)], pan = viewer.scene.pan2Dxyzmm, before = pan[3];
      if (Number.isNaN(p[0] + q[0])) return; // outside the slices
      const after = Math.max(1, Math.min(10, before * factor));
      const moved = [0, 1, 2].map((i) => (after === 1 ? 0 : pan[i] + q[i] * before - p[i] * after));
      viewer.setPan2Dxyzmm([...moved, after]);
    }
    const middle = () => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return [left + width / 2, top + height / 2];
    };
    const enlarge = (factor) => zoom(middle(), middle(), factor);

    // NiiVue changes the slice at every event of a wheel. A trackpad sends many small ones, and a pinch
    // of two fingers as a wheel with Ctrl.
    let rolled = 0, rolledAt = 0;
    stage.addEventListener("wheel", (event) => {
      const pixels = event.deltaY * [1, 33, 100][event.deltaMode];
      if (event.timeStamp - rolledAt > 400 || rolled * pixels < 0) rolled = 0;
      [rolled, rolledAt] = [rolled + pixels, event.timeStamp];
      if (!event.ctrlKey && Math.abs(rolled) >= 40) { rolled = 0; return; }
      event.preventDefault();
      event.stopPropagation();
      const at = [event.clientX, event.clientY];
      if (event.ctrlKey) { rolled = 0; zoom(at, at, Math.exp(-pixels / 100)); }
    }, { capture: true, passive: false });

    // In a single plane, dragging up or down with a finger or the left button changes the slice.
    // NiiVue handles the right button: brightness and contrast.
    let dragged = null;
    const startDrag = (y) => { dragged = chosen("plane") === "all" ? null : { y, from: place[plane().axis] }; };
    function continueDrag(y) {
      const slices = shape[plane().axis] / stage.clientHeight;
      go(dragged.from + Math.round((dragged.y - y) * slices));
    }
    stage.addEventListener("mousedown", (event) => {
      if (event.button !== 0) return;
      startDrag(event.clientY);
      if (dragged) event.stopPropagation();
    }, { capture: true });
    window.addEventListener("mousemove", (event) => {
      if (dragged && !(event.buttons & 1)) dragged = null; // released outside the window
      if (dragged) continueDrag(event.clientY);
    });
    window.addEventListener("mouseup", () => { dragged = null; });
    let pinched = null;
    const pinch = ([a, b]) => ({
      at: [(a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2],
      apart: Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)),
    });
    function touch(event) {
      const { touches, type } = event;
      if (touches.length > 1) {
        const now = pinch(touches);
        if (pinched && type === "touchmove") zoom(pinched.at, now.at, now.apart / pinched.apart);
        [pinched, dragged] = [now, null];
      } else if (type === "touchstart") {
        startDrag(touches[0].clientY);
      } else if (type === "touchmove" && dragged) {
        continueDrag(touches[0].clientY);
      }
      if (dragged || pinched) event.stopPropagation();
      if ((dragged || pinched) && event.cancelable && type === "touchmove") event.preventDefault();
      if (!touches.length) pinched = dragged = null;
    }
    for (const type of ["touchstart", "touchmove", "touchend", "touchcancel"]) {
      stage.addEventListener(type, touch, { capture: true, passive: type === "touchstart" });
    }

    const keys = {
      ArrowUp: () => step(1), ArrowDown: () => step(-1), PageUp: () => step(10), PageDown: () => step(-10),
      "+": () => enlarge(1.25), "-": () => enlarge(0.8), 0: () => enlarge(0),
      Home: () => { place.splice(0, 3, ...start); show(); },
    };
    const planeKeys = { a: "axial", c: "coronal", s: "sagittal", m: "all" };
    const layerKeys = { p: "prediction", t: "truth", u: "uncertainty" };
    settings.modalities.forEach((name, i) => { if (settings.present.includes(name)) keys[i + 1] = () => { choose("modality", name); setModality(); }; });
    for (const [key, name] of Object.entries(planeKeys)) keys[key] = () => { choose("plane", name); setPlane(); };
    for (const [key, name] of Object.entries(layerKeys)) {
      if (layers[name]) keys[key] = () => { const box = document.querySelector(`input[value=${name}]`); box.checked = !box.checked; setLayers(); };
    }
    const onKey = (event) => {
      if (event.target === canvas && event.key !== "Tab") event.stopPropagation(); // NiiVue handles keys too
      const arrows = event.target.matches("input[type=radio], input[type=range]") && event.key.startsWith("Arrow");
      const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (event.type === "keyup" || !action || arrows || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      action();
    };
    for (const type of ["keydown", "keyup"]) window.addEventListener(type, onKey, { capture: true });

    setPlane();
    setLayers();
    message.textContent = "";
    document.documentElement.dataset.state = "ready";
  } catch (error) {
    fail("The slices cannot be shown: " + error.message);
    throw error;
  }
})();
