// Times in the reader's zone, and a list that renews itself. Every page can be read without this.
"use strict";

function localise(root) {
  const today = new Date().toDateString();
  for (const element of root.querySelectorAll("time")) {
    const moment = new Date(element.dateTime);
    const clock = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const day = moment.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
    element.textContent = moment.toDateString() === today ? clock : `${day}, ${clock}`;
  }
}

async function renew() {
  const main = document.getElementById("main");
  // A question that is open, such as "delete all?", is not taken away.
  if (document.hidden || main.querySelector("details[open]")) return;
  const stand = await (await fetch("/api/stand")).json();
  if (stand.stand === main.dataset.stand && !stand.behind) return;
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  const fresh = page.getElementById("main");
  if (!fresh) return;
  localise(fresh);
  main.replaceWith(document.adoptNode(fresh));
  document.querySelector("footer").replaceWith(document.adoptNode(page.querySelector("footer")));
}

async function watch() {
  try {
    await renew();
  } catch {
    // The server is away; the list stays as it is until it is back.
  }
  setTimeout(watch, 2000);
}

localise(document);
if (document.body.dataset.live === "yes") setTimeout(watch, 2000);
