// Keeps the page up to date. Everything on it can be read and done without this file.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const said = byId("said");
  const liveState = byId("live-state");

  function say(text) {
    if (said && said.textContent !== text) said.textContent = text;
  }

  // Replaces what is inside an element; what had the focus in it has it again, and what was open stays open.
  function replace(element, html) {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const id = focused && focused.id;
    const link = focused && focused.getAttribute("href");
    const open = [...element.querySelectorAll("details[open][id]")].map((each) => each.id);
    element.innerHTML = html;
    open.forEach((each) => { const found = byId(each); if (found) found.open = true; });
    if (!focused) return;
    const again = (id && byId(id)) || (link && [...element.querySelectorAll("a")].find((each) => each.getAttribute("href") === link));
    if (again) again.focus({ preventScroll: true });
  }

  function showLive(text) {
    if (!liveState) return;
    liveState.hidden = false;
    if (liveState.textContent !== text) liveState.textContent = text;
  }

  function follow(root) {
    let source = null;
    let headline = "";

    function take(event) {
      const fragments = JSON.parse(event.data);
      for (const [name, html] of Object.entries(fragments)) {
        if (name === "phase") {
          document.documentElement.dataset.phase = html;
          continue;
        }
        const element = byId(name);
        if (element) replace(element, html);
      }
      const now = byId("state");
      if (now && headline && now.textContent !== headline) say(now.textContent);
      headline = now ? now.textContent : "";
    }

    function connect() {
      source = new EventSource(root.dataset.events);
      source.onopen = () => showLive("live");
      source.onmessage = take;
      source.onerror = () => {
        showLive("not connected, trying again");
        if (source.readyState === EventSource.CLOSED) {
          disconnect();
          setTimeout(() => { if (!document.hidden && !source) connect(); }, 10000);
        }
      };
    }

    function disconnect() {
      if (source) source.close();
      source = null;
    }

    // A page that nobody sees asks for nothing.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) disconnect();
      else if (!source) connect();
    });
    window.addEventListener("pagehide", disconnect);
    window.addEventListener("pageshow", (event) => { if (event.persisted && !source) connect(); });
    if (!document.hidden) connect();
  }

  // Parts of other pages are fetched again every few seconds while the page is seen.
  function refresh(part) {
    const tail = () => part.hasAttribute("data-tail") && part.querySelector(".scroll");
    const toEnd = () => { const list = tail(); if (list) list.scrollTop = list.scrollHeight; };
    const isAtEnd = () => { const list = tail(); return !list || list.scrollHeight - list.scrollTop - list.clientHeight < 40; };
    toEnd();
    setInterval(async () => {
      if (document.hidden || !isAtEnd() || String(window.getSelection())) return;
      try {
        const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
        if (!answer.ok) throw new Error(answer.status);
        const found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
        if (found && found.innerHTML !== part.innerHTML) {
          replace(part, found.innerHTML);
          toEnd();
        }
        showLive("live");
      } catch {
        showLive("not connected, trying again");
      }
    }, 1000 * Number(part.dataset.refresh));
  }

  const live = byId("live");
  if (live) follow(live);
  document.querySelectorAll("[data-refresh]").forEach(refresh);
})();
