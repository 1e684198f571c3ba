// One person, what they met, what is recommended, and what they say to it. Everything is asked of the service itself.
"use strict";

const by = (id) => document.getElementById(id);
const state = { user: null, about: {}, file: null, asked: 0, urls: new Map(), said: null, question: undefined };
const SHOWN = 12;
const MOST = 100; // of a history
const TRIES = 300; // seconds that the questions for somebody new may take to be prepared

// --- asking the service -------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

function headers(more = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function fetched(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401) by("key").hidden = false;
  throw new Refused(answer.status, said.error ?? `the service answered ${answer.status}`);
}

const get = async (path, values = {}) => (await fetched(`${path}?${new URLSearchParams(values)}`)).json();

const post = async (path, body) => {
  const form = body instanceof FormData;
  const options = form ? { body } : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await fetched(path, { method: "POST", ...options })).json();
};

// Pictures and sounds need the key, too, which an address cannot carry; so they are fetched and kept.
function media(item, kind) {
  const name = `${kind} ${item}`;
  if (!state.urls.has(name)) {
    const address = `/v1/media?${new URLSearchParams({ item, kind })}`;
    const url = fetched(address).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
    state.urls.set(name, url.catch((error) => { state.urls.delete(name); throw error; }));
  }
  return state.urls.get(name);
}

// --- small parts --------------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function say(sentence) {
  by("status").textContent = sentence;
  by("alert").hidden = true;
}

function complain(error) {
  by("alert").textContent = error.message;
  by("alert").hidden = false;
}

const items = (count) => `${count} ${count === 1 ? "item" : "items"}`;
const number = (value, digits = 3) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);

function initials(title) {
  const words = title.split(/[^\p{L}\p{N}]+/u).filter((word) => word && !["the", "a", "an"].includes(word.toLowerCase()));
  return words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

const sound = new Audio();
let playing = null;

function stop() {
  sound.pause();
  if (playing !== null) {
    playing.textContent = "▶";
    playing.setAttribute("aria-label", playing.getAttribute("aria-label").replace(/^Stop/, "Play"));
  }
  playing = null;
}

async function play(button, item) {
  const again = playing === button;
  stop();
  if (again) return;
  try {
    sound.src = await media(item, "audio");
    await sound.play();
    playing = button;
    button.textContent = "■";
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^Play/, "Stop"));
  } catch (error) {
    complain(error);
  }
}
sound.addEventListener("ended", stop);

// A picture where there is one, else the title's first letters; a button that plays where there is a sound.
function art(one, small = false) {
  const made = element("div", { class: "art" }, element("span", { "aria-hidden": "true" }, initials(one.title)));
  if (one.image) {
    made.classList.add("pictured");
    media(one.item, "image").then(
      (url) => made.querySelector("span").replaceWith(element("img", { src: url, alt: small ? "" : `Picture of ${one.title}` })),
      () => made.classList.remove("pictured"),
    );
  }
  if (one.audio && !small) made.append(player(one));
  return made;
}

function player(one, small = false) {
  const button = element("button", { type: "button", class: small ? "play small" : "play", "aria-label": `Play ${one.title}` }, "▶");
  button.addEventListener("click", () => play(button, one.item));
  return button;
}

// --- the person and their history ---------------------------------------------------------------------------------

function choose(user) {
  state.user = user;
  state.said = null;
  state.question = undefined;
  by("new").hidden = true;
  by("person").value = user;
  history.replaceState(null, "", `#user=${encodeURIComponent(user)}`);
  return renew();
}

async function showHistory() {
  let events = [];
  try {
    events = (await post("/v1/people/history", { user: state.user, limit: MOST })).events;
  } catch (error) {
    if (error.status !== 404) throw error; // somebody new has none
  }
  by("history-note").textContent = events.length
    ? `${summary(events)}, the newest first.`
    : `Nothing is known of ${state.user} yet: add an item below, or say in words what you would like.`;
  by("history").replaceChildren(
    ...events.map((one) =>
      element(
        "li",
        {},
        art(one, true),
        element("span", {}, one.title, element("small", {}, told(one))),
        one.audio ? player(one, true) : null,
      ),
    ),
  );
  return events.length;
}

// What speaks for somebody is counted apart from what they refused, as is what recommendations are said to go by.
function summary(events) {
  if (events.length === MOST) return `The latest ${MOST} of what ${state.user} chose and refused`;
  const refused = events.filter((one) => one.kind in NAMES).length;
  return `${items(events.length - refused)} of ${state.user}` + (refused ? `, and ${refused} refused` : "");
}

const NAMES = { "not-this": "not this", "less-like-this": "less like this" };

function told(one) {
  if (one.kind in NAMES) return NAMES[one.kind];
  return one.rating === null ? "chosen" : `${Number(one.rating.toFixed(1))} ★`;
}

let typing = 0;

function later(task) {
  clearTimeout(typing);
  typing = setTimeout(() => task().catch(complain), 200);
}

by("person").addEventListener("input", () =>
  later(async () => {
    const found = await post("/v1/people/search", { search: by("person").value, limit: 20 });
    by("people").replaceChildren(...found.map(({ user, events }) => element("option", { value: user }, `${events} items`)));
  }),
);

by("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = by("person").value.trim();
  if (user) choose(user).catch(complain);
});

const drawn = (length) =>
  [...crypto.getRandomValues(new Uint8Array(length))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const visit = () => choose(`visitor-${drawn(6)}`);

by("title").addEventListener("input", () =>
  later(async () => {
    const search = by("title").value.trim();
    const found = search ? await get("/v1/items", { search, limit: 6 }) : [];
    by("titles").replaceChildren(
      ...found.map((one) =>
        element("li", {}, element("button", { type: "button", class: "plain", onclick: () => add(one) }, one.title)),
      ),
    );
  }),
);

by("add").addEventListener("submit", (event) => event.preventDefault());

async function add(one) {
  by("titles").replaceChildren();
  by("title").value = "";
  by("title").focus();
  if (state.user === null) visit().catch(complain);
  await feedback(one, "click");
}

// --- questions to somebody new ------------------------------------------------------------------------------------

// What they said, by item (null: nobody is asked); and the item asked about (undefined: not yet; null: there is no more).
const answered = () => [...(state.said ?? [])].map(([item, answer]) => ({ item, answer }));

async function beginAnew() {
  try {
    await begun; // whether there are people to be like
    const visiting = visit(), { user } = state;
    await visiting;
    if (state.user !== user || !state.about.people) return; // with no log there is nobody to be like
    state.said = new Map();
    by("asked").hidden = by("over").hidden = true;
    by("new-note").textContent = "";
    by("new").hidden = false;
    by("new-title").focus();
    await ask();
    if (by("new").getBoundingClientRect().bottom > innerHeight) by("new").scrollIntoView();
    await recommend();
  } catch (error) {
    complain(error);
  }
}

// The next question, as soon as there is one; nothing where another person was chosen meanwhile.
async function ask(tries = TRIES) {
  const said = state.said;
  by("asked").setAttribute("aria-busy", "true");
  try {
    const { about } = await post("/v1/questionnaire", { answers: answered() });
    if (said === state.said) showQuestion(about);
  } catch (error) {
    if (said !== state.said) return;
    if (error.status !== 503 || tries === 1) throw error;
    by("new-note").textContent = `Just a moment: ${error.message} …`;
    await new Promise((done) => setTimeout(done, 1000));
    if (said === state.said) await ask(tries - 1);
  } finally {
    if (said === state.said) by("asked").removeAttribute("aria-busy");
  }
}

function showQuestion(about) {
  const count = state.said.size;
  const so = count ? `${count} ${count === 1 ? "answer" : "answers"}.` : "Say what you think of a few items: the list below follows, and nothing of it is kept.";
  by("new-note").textContent = about === null ? `${so} There is nothing more to ask.` : so;
  if (about === null && by("asked").contains(document.activeElement)) by("new-title").focus();
  state.question = about;
  by("asked").hidden = about === null;
  by("over").hidden = false;
  if (about === null) return;
  by("asked").querySelector(".art").replaceWith(art(about));
  by("asked-title").textContent = about.title;
  by("asked-words").textContent = about.words;
}

async function answer(says) {
  if (by("asked").hasAttribute("aria-busy")) return; // the next question is on its way
  state.said.set(state.question.item, says);
  try {
    await ask();
    await recommend();
  } catch (error) {
    complain(error);
  }
}

for (const button of document.querySelectorAll(".says button")) button.addEventListener("click", () => answer(button.value));
for (const id of ["visitor", "over"]) by(id).addEventListener("click", beginAnew);

// --- recommendations ----------------------------------------------------------------------------------------------

function question() {
  const asked = { k: SHOWN };
  if (state.user !== null && (state.known || !by("text").value.trim())) asked.user = state.user;
  for (const name of ["diversity", "novelty"]) if (Number(by(name).value)) asked[name] = Number(by(name).value);
  if (by("text").value.trim()) asked.text = by("text").value.trim();
  const other = state.known || asked.text !== undefined || state.file !== null;
  if (state.question !== undefined && (state.said.size || !other)) asked.answers = answered();
  return asked;
}

async function recommend() {
  const mine = ++state.asked, asked = question();
  if (state.file !== null && !state.known) delete asked.user;
  if (!["user", "text", "answers"].some((name) => name in asked) && state.file === null) return;
  by("found").classList.add("waits");
  try {
    let answer;
    if (state.file === null) answer = await post("/v1/recommend", asked);
    else {
      const form = new FormData();
      form.set("question", JSON.stringify(asked));
      form.set(state.file.type.startsWith("audio") ? "audio" : "image", state.file);
      answer = await post("/v1/recommend/media", form);
    }
    if (mine !== state.asked) return; // a newer question is on its way
    stop();
    by("found").replaceChildren(...answer.items.map((one) => card(one, asked)));
    say(`${items(answer.items.length)} for ${answer.query}.${order(answer)}`);
  } catch (error) {
    if (mine === state.asked && error.status === 404) {
      by("found").replaceChildren();
      say("Nothing to go by yet: add an item, or wish for something.");
    } else if (mine === state.asked) complain(error);
  } finally {
    if (mine === state.asked) by("found").classList.remove("waits");
  }
}

async function renew() {
  if (state.user !== null) state.known = (await showHistory()) > 0;
  await recommend();
}

// Nothing where scores fall down the list; else which steps weighed items against one another, or moved some.
function order({ items, steps }) {
  const falls = items.every(({ score }, n) => n === 0 || score <= items[n - 1].score);
  return falls ? "" : ` Not sorted by score alone, but re-ranked by ${steps.filter((name) => name !== "rating").join(", ")}.`;
}

function card(one, asked) {
  const rating = one.rating === null ? "" : ` · predicted ${one.rating.toFixed(1)} ★`;
  const who = asker(asked);
  return element(
    "li",
    {},
    art(one),
    element("h3", { tabindex: "-1" }, one.title),
    one.words ? element("p", { class: "words" }, one.words) : null,
    element("p", { class: "score" }, `score ${number(one.score)}${rating}`),
    state.file === null && who !== null ? reasons(one, who) : null,
    state.user === null ? null : answers(one),
  );
}

// What a person can say to a recommendation.
function answers(one) {
  const button = (kind, text, label) =>
    element("button", { type: "button", class: kind === "click" ? "like" : "", "aria-label": `${label}: ${one.title}`, onclick: (event) => react(event, one, kind) }, text);
  const range = state.about.rating_range;
  const [first, last] = range ? [Math.ceil(range[0]), Math.floor(range[1])] : [0, 0]; // whole stars, also of a scale from 0.5 to 5
  const stars = last > 1 && last - first <= 9 ? Array.from({ length: last - first + 1 }, (_, n) => first + n) : [];
  return element(
    "div",
    { class: "feedback", role: "group", "aria-label": `Your answer to ${one.title}` },
    stars.length
      ? element("div", { class: "stars" }, ...stars.map((value) => element("button", { type: "button", "aria-label": `${value} of ${last} stars: ${one.title}`, onclick: (event) => react(event, one, "rating", value) }, "★")))
      : button("click", "I like it", "I like it"),
    button("not-this", "Not this", "Not this"),
    button("less-like-this", "Less like this", "Less like this"),
  );
}

async function react(event, one, kind, value = null) {
  const place = [...by("found").children].indexOf(event.target.closest("li"));
  await feedback(one, kind, value);
  by("found").children[Math.min(place, by("found").children.length - 1)]?.querySelector("h3").focus();
}

// An event keeps its id however often it is sent, so the service has it once.
async function feedback(one, kind, value = null) {
  const event = { id: drawn(12), user: state.user, item: one.item, kind, time: Date.now() / 1000 };
  if (value !== null) event.value = value;
  try {
    await sent({ events: [event] });
    await renew();
  } catch (error) {
    complain(error);
  }
}

async function sent(body, tries = 3) {
  try {
    return await post("/v1/feedback", body);
  } catch (error) {
    const again = !(error instanceof Refused) || error.status === 503;
    if (tries === 1 || !again) throw error;
    await new Promise((done) => setTimeout(done, 700));
    return sent(body, tries - 1);
  }
}

// --- reasons ------------------------------------------------------------------------------------------------------

// Who asks why. Somebody new is known by what they like, and nothing can be told of why to who likes nothing yet.
function asker({ user, text, answers = null }) {
  if (answers === null || state.known) return { user, text };
  const liked = answers.filter((one) => one.answer === "like").map((one) => one.item);
  return liked.length ? { history: liked, text } : text === undefined ? null : { text };
}

function reasons(one, who) {
  const told = element("div", { "aria-live": "polite" });
  const made = element("details", {}, element("summary", { "aria-label": `Why ${one.title}?` }, "Why?"), told);
  made.addEventListener("toggle", async () => {
    if (!made.open || told.childElementCount) return;
    told.replaceChildren(element("p", { class: "waiting" }, "Working it out …"));
    try {
      const said = await post("/v1/explain", { item: one.item, ...who });
      const past = said.past.slice(0, 4);
      const most = Math.max(...past.map(({ value }) => Math.abs(value)), 1e-9);
      told.replaceChildren(
        element("p", {}, said.sentence),
        element("dl", { class: "reasons" }, ...past.map((part) => reason(part, most))),
      );
    } catch (error) {
      told.replaceChildren(element("p", {}, error.message));
    }
  });
  return made;
}

function reason({ title, value }, most) {
  const bar = element("span", { class: value < 0 ? "bar against" : "bar", "aria-hidden": "true" });
  bar.style.width = `${(100 * Math.abs(value)) / most}%`;
  return element("div", {}, element("dt", {}, title), element("dd", {}, (value < 0 ? "" : "+") + number(value)), bar);
}

// --- wishes -------------------------------------------------------------------------------------------------------

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  recommend();
});
by("text").addEventListener("search", () => recommend()); // the cross that empties it

for (const name of ["diversity", "novelty"]) {
  by(name).addEventListener("input", () => (document.querySelector(`output[for=${name}]`).textContent = by(name).value));
  by(name).addEventListener("change", () => recommend());
}

function take(file) {
  if (file && !/^(image|audio)\//.test(file.type)) return complain(new Error(`${file.name} is neither a picture nor a sound`));
  state.file = file ?? null;
  by("dropped").hidden = state.file === null;
  by("dropped").querySelector("span").textContent = state.file?.name ?? "";
  if (state.file === null) by("file").value = "";
  recommend();
}

by("file").addEventListener("change", () => take(by("file").files[0]));
by("undrop").addEventListener("click", () => {
  take(null);
  by("file").focus();
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  by("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    by("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

// --- beginning ----------------------------------------------------------------------------------------------------

by("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", by("key-text").value.trim());
  by("key").hidden = true;
  begun = begin();
});

async function begin() {
  try {
    state.about = await get("/v1/about");
  } catch (error) {
    return complain(error);
  }
  by("alert").hidden = true;
  const { items: all, people, reads, files } = state.about;
  by("about").textContent = `${all.toLocaleString("en")} items` + (people ? `, ${people.toLocaleString("en")} people in the log` : "");
  by("text-part").hidden = !reads.includes("sentence");
  by("file").accept = files.map((kind) => `${kind}/*`).join(",");
  by("drop").hidden = !files.length;
  const user = new URLSearchParams(location.hash.slice(1)).get("user");
  if (user) await choose(user).catch(complain);
}

let begun = begin();
