// Picks, sounds and recommendations. All of it is computed here, from the vectors in the page.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const queries = floats(data.queries);
const parts = data.parts.map(({name, vectors}) => ({name, vectors: floats(vectors)}));
const shelf = [...document.querySelectorAll("#shelf .pick")];
const picked = new Set(); // places of the shelf, the first that was picked first

function floats(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
}

function inner(one, row, other, number) {
  let sum = 0;
  for (let d = 0; d < data.dimension; d++) sum += one[row * data.dimension + d] * other[number * data.dimension + d];
  return sum;
}

// The best tracks for these places of the shelf: what each part adds, and the sum, which is the model's score.
function recommend(places) {
  const query = data.picks.indexOf(places.join(" "));
  const barred = new Set(places.map((place) => data.shelf[place]));
  return data.tracks
    .map((track, row) => ({track, row}))
    .filter(({row}) => !barred.has(row))
    .map(({track, row}) => {
      const shares = parts.map(({vectors}) => inner(vectors, row, queries, query));
      return {track, shares, score: shares.reduce((sum, share) => sum + share, 0)};
    })
    .sort((one, other) => other.score - one.score)
    .slice(0, data.shown);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
}

// One line for each part: its name, a bar from zero, the number. All bars of a list share one scale.
function bars(shares, low, high) {
  const place = (value) => (100 * (value - low)) / (high - low);
  return parts.map(({name}, number) => {
    const share = shares[number];
    const bar = element("i", {class: `fill ${name}`});
    bar.style.left = `${place(Math.min(0, share))}%`;
    bar.style.width = `${place(Math.abs(share)) - place(0)}%`;
    const zero = element("i", {class: "zero"});
    zero.style.left = `${place(0)}%`;
    const track = element("span", {class: "bar", "aria-hidden": "true"}, bar, zero);
    return element("div", {}, element("dt", {}, name), element("dd", {}, track, element("b", {}, signed(share))));
  });
}

function card({track, shares, score}, low, high) {
  const cover = element("img", {src: track.image, alt: `Cover of ${track.title}`, width: 160, height: 160});
  const play = element("button", {type: "button", class: "play", "aria-label": `Play ${track.title}`}, "▶");
  const sound = element("audio", {preload: "none", src: track.audio});
  const heading = element("h3", {}, track.title);
  if (track.new) heading.append(" ", element("span", {class: "new"}, "new"));
  const sum = element("div", {class: "sum"}, element("dt", {}, "score"), element("dd", {}, element("b", {}, score.toFixed(3))));
  return element(
    "li",
    {},
    element("div", {class: "art"}, cover, play, sound),
    element(
      "div",
      {class: "about"},
      heading,
      element("p", {class: "artist"}, track.artist),
      element("p", {class: "words"}, track.text),
      element("dl", {class: "parts"}, ...bars(shares, low, high), sum),
    ),
  );
}

// One more than may be picked takes the place of the first.
function pick(place) {
  picked.add(place);
  if (picked.size > data.most) picked.delete([...picked][0]);
}

function show() {
  const places = [...picked].sort((one, other) => one - other);
  shelf.forEach((button, place) => button.setAttribute("aria-pressed", picked.has(place)));
  const titles = places.map((place) => data.tracks[data.shelf[place]].title);
  document.getElementById("picked").textContent = places.length
    ? `${places.length} of ${data.most} picked: ${titles.join("; ")}.`
    : "Nothing picked yet.";
  document.getElementById("again").disabled = !places.length;
  document.getElementById("answer").hidden = !places.length;
  const found = places.length ? recommend(places) : [];
  const all = found.flatMap(({shares}) => shares);
  const low = Math.min(0, ...all), high = Math.max(0.001, ...all);
  document.querySelectorAll("#found audio").forEach((sound) => sound.pause()); // it would go on without its button
  document.getElementById("found").replaceChildren(...found.map((one) => card(one, low, high)));
  history.replaceState(null, "", places.length ? `#picks=${places.join(",")}` : "#");
}

function toggle(button) {
  const sound = button.parentElement.querySelector("audio");
  const starts = sound.paused;
  document.querySelectorAll("audio").forEach((other) => other.pause());
  if (starts) {
    sound.currentTime = 0;
    sound.play();
  }
}

// Events of sounds do not bubble, so they are caught on their way down.
for (const event of ["play", "pause", "ended"]) {
  document.addEventListener(
    event,
    ({target}) => {
      const button = target.parentElement.querySelector(".play");
      const playing = !target.paused && !target.ended;
      button.textContent = playing ? "■" : "▶";
      button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^\w+/, playing ? "Stop" : "Play"));
    },
    true,
  );
}

document.addEventListener("click", ({target}) => {
  const button = target.closest("button");
  if (button === null) return;
  if (button.classList.contains("play")) return toggle(button);
  const place = shelf.indexOf(button);
  if (button.id === "again") picked.clear();
  else if (picked.has(place)) picked.delete(place);
  else if (place >= 0) pick(place);
  else return;
  show();
});

// The address holds the picks, so that they can be kept or passed on.
const kept = location.hash.match(/^#picks=([\d,]+)$/)?.[1].split(",").map(Number) ?? [];
kept.filter((place) => place < shelf.length).forEach(pick);
show();
