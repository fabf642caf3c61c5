// Two images on top of each other in a frame that scrolls; the upper one ends at the divider.
const ZOOMS = [1, 2, 4];

function startGallery() {
  const frame = find("frame"), stack = find("stack"), divider = find("divider");
  const images = { left: find("left-image"), right: find("right-image") };
  const names = [...new Set(data.scenes.map((scene) => scene.image))];
  let scenes, scene;
  let zoom = 1, share = 0.5; // of the frame's width that is left of the divider

  const viewOf = (side) => scene.views[find(side).value];

  function place() {
    const width = frame.clientWidth;
    const edge = (frame.scrollLeft + share * width) / stack.clientWidth;
    images.left.style.clipPath = `inset(0 ${100 * (1 - edge)}% 0 0)`;
    divider.style.left = `${share * width}px`;
    const percent = Math.round(100 * share);
    divider.setAttribute("aria-valuenow", percent);
    divider.setAttribute("aria-valuetext",
      `${percent} % ${viewOf("left").label}, ${100 - percent} % ${viewOf("right").label}`);
  }

  function moveTo(wanted) {
    share = Math.min(1, Math.max(0, wanted));
    place();
  }

  // Keeps the pixel at (x, y) of the frame where it is.
  function magnify(wanted, x = frame.clientWidth / 2, y = frame.clientHeight / 2) {
    const factor = wanted / zoom;
    const left = (frame.scrollLeft + x) * factor - x, top = (frame.scrollTop + y) * factor - y;
    zoom = wanted;
    const { width, height } = data.images[viewOf("right").image];
    stack.style.width = `${width * zoom}px`;
    stack.style.height = `${height * zoom}px`;
    frame.scrollTo(left, top);
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.setAttribute("aria-pressed", Number(button.dataset.zoom) === zoom);
    }
    place();
  }

  const magnifyNext = (x, y) => magnify(ZOOMS[(ZOOMS.indexOf(zoom) + 1) % ZOOMS.length], x, y);

  function compare() {
    const views = [viewOf("left"), viewOf("right")];
    const metric = (view, key) => {
      if (view.kind === "final") return valueOf(records[view.record], key);
      return view.kind === "initial" ? initialOf(records[view.record], key) : null;
    };
    const line = (label, texts) => element("tr", {},
      element("th", { scope: "row" }, label), ...texts.map((text) => element("td", {}, text)));
    const ofRecord = (text) =>
      views.map((view) => (view.record === null ? "–" : text(records[view.record])));
    const lines = [
      line("channel uses", ofRecord((record) => record.channel_uses.toLocaleString("en"))),
      line("true SNR / dB", ofRecord((record) => fixed(record.snr_db, 2))),
    ];
    if (views.some((view) => view.record !== null && records[view.record].outage)) {
      const decoded = new Map([[true, "no: an outage"], [false, "yes"]]);
      lines.push(line("decoded", ofRecord((record) => decoded.get(record.outage) ?? "–")));
    }
    for (const { key, heading, higher_is_better, digits } of data.metrics) {
      const values = views.map((view) => metric(view, key));
      if (values.some((value) => value !== null)) {
        lines.push(line(`${heading} ${higher_is_better ? "↑" : "↓"}`,
          values.map((value) => fixed(value, digits))));
      }
    }
    if (views.some((view) => view.record !== null && records[view.record].caption !== null)) {
      lines.push(line("caption", ofRecord((record) => record.caption ?? "–")));
    }
    find("compared").tBodies[0].replaceChildren(...lines);
  }

  function showSides() {
    for (const side of ["left", "right"]) {
      const view = viewOf(side);
      images[side].src = data.images[view.image].source;
      images[side].alt = `${scene.image}: ${view.label}`;
    }
    compare();
    magnify(zoom);
  }

  function showUncertainty() {
    const maps = scene.views.filter((view) => view.kind === "uncertainty");
    find("uncertainty").replaceChildren(...maps.map((view) => {
      const { source, width, height } = data.images[view.image];
      const caption = `${view.label}: bright where samples of the generative receiver disagree; ` +
        "such details are generated, not received. " +
        "Dark is not always right: errors that all samples share do not show.";
      return element("figure", {},
        element("img", { src: source, width, height, alt: `${scene.image}: ${view.label}` }),
        element("figcaption", {}, caption));
    }));
  }

  function showPoint() {
    scene = scenes[find("point").value];
    const labels = scene.views.map((view) => view.label);
    offer(find("left"), labels);
    offer(find("right"), labels, scene.views.findLastIndex((view) => view.kind === "final"));
    showSides();
    showUncertainty();
  }

  function showImage() {
    const name = names[find("image").value];
    scenes = data.scenes.filter((candidate) => candidate.image === name);
    offer(find("point"), scenes.map((candidate) => candidate.point));
    showPoint();
  }

  find("image").addEventListener("change", showImage);
  find("point").addEventListener("change", showPoint);
  for (const side of ["left", "right"]) find(side).addEventListener("change", showSides);
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => magnify(Number(button.dataset.zoom)));
  }
  frame.addEventListener("scroll", place);
  new ResizeObserver(place).observe(frame);

  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    moveTo((event.clientX - frame.getBoundingClientRect().left) / frame.clientWidth);
  });
  const steps = {
    ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02,
    PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1,
  };
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    moveTo(share + steps[event.key]);
  });
  for (const part of [divider, frame]) {
    part.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      magnifyNext();
    });
  }

  let grip = null; // where a mouse took hold of the images, to push them about
  stack.addEventListener("pointerdown", (event) => {
    grip = { x: event.clientX, y: event.clientY, left: frame.scrollLeft, top: frame.scrollTop };
    grip.pushed = false;
    if (event.pointerType === "mouse") stack.setPointerCapture(event.pointerId);
  });
  stack.addEventListener("pointermove", (event) => {
    if (!stack.hasPointerCapture(event.pointerId)) return;
    const x = event.clientX - grip.x, y = event.clientY - grip.y;
    grip.pushed ||= Math.hypot(x, y) > 4;
    if (grip.pushed) frame.scrollTo(grip.left - x, grip.top - y);
  });
  stack.addEventListener("click", (event) => {
    if (grip?.pushed) return;
    const corner = frame.getBoundingClientRect();
    magnifyNext(event.clientX - corner.left, event.clientY - corner.top);
  });

  offer(find("image"), names);
  showImage();
}

if (data.scenes.length) startGallery();
