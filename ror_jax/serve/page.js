"use strict";

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(0)}\u00a0%`;
const spaced = (key) => key.replaceAll("_", " ");
const title = (key) => spaced(key).replace(/^./, (first) => first.toUpperCase());
const MOST_BARS = 12; // of a chart; of more classes the likeliest ones are shown
const FEW_BARS = 5;
const ITEM = /^([-*]|\d+\.) /; // of a list in Markdown

function make(tag, properties = {}, ...children) {
  const { css = {}, attributes = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  Object.assign(element.style, css);
  element.append(...children);
  return element;
}

// --- Photographs in ------------------------------------------------------------------------------------------------

let answers; // what the model's answers are, by name
let intervals; // of model.json, by name of the answer
let asked; // the promise of both

async function read(files) {
  const images = [...files];
  if (!images.length) return;
  const articles = images.map(({ name }) => make("article", { ariaBusy: "true" }, make("h2", { textContent: name })));
  byId("results").prepend(...articles);
  byId("clear").hidden = false;
  say("Reading …");
  const told = await Promise.all(images.map((image, at) => readOne(image, articles[at])));
  const failed = told.filter(({ failed }) => failed).length;
  const count = `${images.length - failed} of ${images.length} photographs read.`;
  say(images.length > 1 ? count : failed ? "The photograph could not be read." : "The photograph was read.");
  byId("status").append(make("span", { className: "unseen", textContent: ` ${told.map(({ words }) => words).join(" ")}` }));
}

// Puts what is in a photograph into its article; returns it in words.
async function readOne(file, article) {
  const result = { failed: false };
  try {
    const [photograph, seconds] = await ask(file);
    article.append(...shown(file, photograph, seconds));
    result.words = spoken(photograph);
  } catch (error) {
    article.append(make("p", { className: "wrong", textContent: error.message }));
    Object.assign(result, { failed: true, words: error.message });
  }
  article.ariaBusy = null;
  return result;
}

async function ask(file) {
  const form = new FormData();
  form.append("files", file, file.name);
  let response, answer;
  try {
    await model();
    response = await fetch(`predict?views=${byId("flip").checked ? "flip" : "single"}`, { method: "POST", body: form });
    answer = await response.json();
  } catch {
    throw new Error(`${file.name}: the server gave no answer. Is it still running, and the file not too large?`);
  }
  if (!response.ok) throw new Error(answer.error);
  return [answer.photographs[0], answer.seconds];
}

function say(words) {
  byId("status").textContent = words;
}

// --- Answers out ---------------------------------------------------------------------------------------------------

function spoken({ photograph, faces, problem }) {
  if (problem) return `${photograph}: ${problem}.`;
  const each = faces.map((face, at) => `${faces.length > 1 ? `face ${at + 1}, ` : ""}${named(face).map((name) => `${spaced(name)} ${answer(face, name)}`).join(", ")}`);
  return `${photograph}: ${faces.length === 1 ? "one face" : `${faces.length} faces`}: ${each.join("; ")}.`;
}

// An answer in words, by its kind. Points are drawn on the picture, and vectors are not shown.
const WORDS = {
  class: (name, unit) => (unit ? `${name.replace(/-$/, "")} ${unit}${name.endsWith("-") ? " and more" : ""}` : spaced(name)),
  number: (number, unit) => `${number.toFixed(0)} ${unit}`,
  flags: (names) => names.map(title).join(", ") || "None",
};

function answer(face, name) {
  const { kind, unit } = answers[name];
  return WORDS[kind](face[name], unit);
}

// The names of a face's answers that have words; of those that follow from others, the ones with probabilities.
function named(face) {
  const wanted = ([name, { kind, derived }]) => kind in WORDS && (!derived || `${name}_probabilities` in face);
  return Object.entries(answers).filter(wanted).map(([name]) => name);
}

function shown(file, photograph, seconds) {
  const { width, height, faces, problem } = photograph;
  const count = problem ? `${problem[0].toUpperCase()}${problem.slice(1)}` : faces.length === 1 ? "One face" : `${faces.length} faces`;
  const line = make("p", { className: "soft", textContent: `${count}. ${width} × ${height} pixels, ${seconds.toFixed(2)} s.` });
  const list = make("div", {}, ...faces.map((face, at) => faceShown(face, at + 1)));
  return [line, make("div", { className: "beside" }, picture(file, photograph), list)];
}

function picture(file, { photograph, width, height, faces }) {
  const image = make("img", { alt: `${photograph}, with a box around each face`, src: URL.createObjectURL(file) });
  const place = make("div", { className: "picture" }, image);
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => place.replaceChildren(make("p", { className: "soft", textContent: "This browser cannot show the photograph." }));
  const part = (length, whole) => `${(100 * length) / whole}%`;
  faces.forEach(({ box: [left, top, wide, high] }, at) => {
    const css = { left: part(left, width), top: part(top, height), width: part(wide, width), height: part(high, height) };
    place.append(make("div", { className: "box", css }, make("span", { textContent: at + 1, ariaHidden: "true" })));
  });
  for (const [name, { kind }] of Object.entries(answers))
    if (kind === "points")
      for (const [x, y] of faces.flatMap((face) => face[name]).filter(([x, y]) => x >= 0 && x <= width && y >= 0 && y <= height))
        place.append(make("div", { className: "dot", css: { left: part(x, width), top: part(y, height) } }));
  return place;
}

function faceShown(face, number) {
  const heading = make("h3", {}, "Face ", make("span", { className: "number", textContent: number }));
  const section = make("section", { className: "face", ariaLabel: `Face ${number}` }, heading);
  for (const name of named(face)) section.append(target(face, name));
  if (face.score !== null)
    section.append(make("p", { className: "soft", textContent: `The detector's score, in its own measure: ${face.score}.` }));
  return section;
}

function target(face, name) {
  const part = make("div", { className: "target" }, make("div", { className: "soft", textContent: title(name) }));
  const probability = face[`${name}_probability`];
  const line = make("p", { className: Array.isArray(face[name]) ? "answer list" : "answer" }, answer(face, name));
  if (probability !== undefined) line.append(make("span", { className: "soft", textContent: percent(probability) }));
  part.append(line);
  if (face[`${name}_interval`]) part.append(...scale(face, name));
  if (face[`${name}_probabilities`]) part.append(bars(face[`${name}_probabilities`], [face[name]].flat()));
  return part;
}

// The interval of an answer on its scale, and the number in it.
function scale(face, name) {
  const { spans, unit, low: first = spans[0][0], high: last = spans.at(-1)[1] } = answers[name];
  const [low, high] = face[`${name}_interval`];
  const words = `${low.toFixed(0)} to ${high.toFixed(0)} ${unit}`;
  const at = (number) => `${Math.min(100, Math.max(0, (100 * (number - first)) / (last - first)))}%`;
  const drawing = make("div", { className: "scale", role: "img", ariaLabel: `On a scale from ${first} to ${last}: ${words}` },
    make("div", { className: "rail" }),
    make("div", { className: "range", css: { left: at(low), width: at(first + high - low) } }));
  if (typeof face[name] === "number") drawing.append(make("div", { className: "point", css: { left: at(face[name]) } }));
  for (let tick = 0; tick <= 5; tick++) {
    const number = first + ((last - first) * tick) / 5;
    drawing.append(make("span", { className: "tick", textContent: +number.toFixed(2), css: { left: at(number) } }));
  }
  const { inside, faces } = intervals[name] ?? {};
  const held = faces ? `; such an interval held the truth for ${percent(inside)} of ${faces} test faces` : "";
  return [drawing, make("p", { className: "soft", textContent: `Probably ${words}${held}.` })];
}

function bars(probabilities, chosen) {
  let rows = Object.entries(probabilities);
  if (rows.length > MOST_BARS) rows = rows.sort((a, b) => b[1] - a[1]).slice(0, FEW_BARS);
  return make("ul", { className: "bars" }, ...rows.map(([name, share]) =>
    make("li", { className: chosen.includes(name) ? "chosen" : "" },
      make("span", { textContent: spaced(name) }),
      make("div", { className: "rail", ariaHidden: "true" }, make("div", { className: "fill", css: { width: `${100 * share}%` } })),
      make("span", { className: "share", textContent: percent(share) }))));
}

// --- The model's card: Markdown as elements, so that no text in it can become anything else -------------------------

function markdown(text) {
  const lines = text.split(/\r?\n/), elements = [];
  const take = (wanted) => {
    const end = lines.findIndex((line) => !wanted(line));
    return lines.splice(0, end < 0 ? lines.length : end);
  };
  while (lines.length) {
    const heading = lines[0].match(/^(#{1,6}) (.*)/);
    if (!lines[0].trim()) lines.shift();
    else if (heading) {
      elements.push(make(heading[1].length < 3 ? "h3" : "h4", {}, ...inline(heading[2])));
      lines.shift();
    } else if (lines[0].startsWith("```")) {
      lines.shift();
      elements.push(make("pre", { tabIndex: 0 }, make("code", { textContent: take((line) => !line.startsWith("```")).join("\n") })));
      lines.shift();
    } else if (lines[0].startsWith("|") && /^\|[\s:|-]+$/.test(lines[1])) elements.push(table(take((line) => line.startsWith("|"))));
    else if (ITEM.test(lines[0])) elements.push(list(take((line) => line.trim())));
    else {
      const parts = inline(take((line) => line.trim() && !/^(#{1,6} |```)/.test(line)).join(" "));
      if (parts.length) elements.push(make("p", {}, ...parts));
    }
  }
  return elements;
}

function list(lines) {
  const items = [];
  for (const line of lines)
    if (ITEM.test(line)) items.push(line.replace(/^\S+ /, ""));
    else items.push(`${items.pop()} ${line.trim()}`);
  return make(/^\d/.test(lines[0]) ? "ol" : "ul", {}, ...items.map((item) => make("li", {}, ...inline(item))));
}

function table([head, rule, ...rows]) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
  const right = cells(rule).map((cell) => cell.endsWith(":"));
  const row = (line, tag) => make("tr", {}, ...cells(line).map((cell, at) => make(tag, { className: right[at] ? "right" : "" }, ...inline(cell))));
  const whole = make("table", {}, make("thead", {}, row(head, "th")), make("tbody", {}, ...rows.map((line) => row(line, "td"))));
  return make("div", { className: "table", tabIndex: 0, role: "region", ariaLabel: "Table" }, whole);
}

// Emphasis and code; of links the words; pictures are left out.
function inline(text) {
  const parts = text.replace(/!\[[^\]]*\]\([^)]*\)/g, "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
  const tags = { "`": "code", "**": "strong", "*": "em" };
  return parts.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*)/).filter((part) => part).map((part) => {
    const mark = part.match(/^(`|\*\*|\*).+\1$/)?.[1];
    return mark ? make(tags[mark], { textContent: part.slice(mark.length, -mark.length) }) : part;
  });
}

// Shows what the server says of the model; asks again where it gave no answer.
function model() {
  return (asked ??= about().catch((error) => {
    asked = null;
    throw error;
  }));
}

async function about() {
  const said = await (await fetch("model")).json(), { card, description } = said;
  ({ answers } = said);
  ({ intervals } = card);
  byId("name").textContent = card.name;
  byId("flip").checked = card.views === "flip";
  byId("card").append(...markdown(description || "Its folder has no description of it."));
}

// --- Camera --------------------------------------------------------------------------------------------------------

async function openCamera() {
  try {
    if (!navigator.mediaDevices) throw new Error("browsers allow it on this machine itself or over HTTPS");
    byId("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    byId("booth").showModal();
  } catch (error) {
    say(`The camera cannot be used: ${error.message.replace(/\.$/, "")}.`);
  }
}

function shoot() {
  const video = byId("video");
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => blob && read([new File([blob], "camera.jpg", { type: blob.type })]), "image/jpeg", 0.92);
  byId("booth").close();
}

function closeCamera() {
  for (const track of byId("video").srcObject?.getTracks() ?? []) track.stop();
  byId("video").srcObject = null;
}

// --- What people do ------------------------------------------------------------------------------------------------

byId("choose").onclick = () => byId("files").click();
byId("files").onchange = ({ target: input }) => read(input.files).finally(() => (input.value = ""));
byId("camera").onclick = openCamera;
byId("shoot").onclick = shoot;
byId("leave").onclick = () => byId("booth").close();
byId("booth").onclose = closeCamera;
byId("clear").onclick = () => {
  byId("results").replaceChildren();
  byId("clear").hidden = true;
  say("Removed.");
  byId("choose").focus();
};
document.onpaste = ({ clipboardData }) => read(clipboardData.files);
document.ondragover = (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
};
document.ondragleave = () => byId("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  read(event.dataTransfer.files);
};
model().catch(() => say("The server gave no answer. Is it still running?"));
