// What every page of the dashboard does by itself: menus, dialogs, toasts, copying, the theme.
// No page needs more than an attribute for any of it.
"use strict";

(() => {
  const texts = () => document.getElementById("toast-texts").dataset;

  // --- toasts ---
  const LEAVES_AFTER_MS = 6000;
  function watch(toast) {
    if (toast.dataset.level !== "error") setTimeout(() => toast.remove(), LEAVES_AFTER_MS);
  }
  function say(text, level) {
    const toast = document.getElementById("toast").content.firstElementChild.cloneNode(true);
    toast.dataset.level = level || "info";
    toast.querySelector("span").textContent = text;
    document.getElementById("toasts").append(toast);
    watch(toast);
  }
  window.relay = Object.assign(window.relay || {}, { say });
  document.querySelectorAll("[data-toast]").forEach(watch);
  document.addEventListener("toast", (event) => say(event.detail.text, event.detail.level));
  document.addEventListener("htmx:sendError", () => say(texts().unreachable, "error"));
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    if (status === 401) return; // the answer leads to the log-in
    // A part that asks by itself shows by its age that it is not renewed.
    if (event.detail.requestConfig.verb === "get" && event.detail.elt.matches("[data-quiet]")) return;
    say(status === 403 ? texts().expired : texts().failed.replace("{status}", status), "error");
  });

  // A part that renews itself rests while nobody sees it.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.elt.matches("[data-quiet]")) event.preventDefault();
  });

  // --- copying ---
  async function copy(button) {
    const { copy, copyFrom } = button.dataset;
    const text = copy ?? document.querySelector(copyFrom).textContent;
    await navigator.clipboard.writeText(text.trim());
    say(texts().copied, "success");
  }

  // --- the theme: written into a cookie, because the server draws the page with it ---
  function choose(theme) {
    const root = document.documentElement;
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    const life = theme ? 31536000 : 0;
    document.cookie = `theme=${theme}; Path=/; Max-Age=${life}; SameSite=Lax`;
    document.querySelectorAll("[data-theme-choice]").forEach((button) => {
      if (button.dataset.themeChoice === theme) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
    document.dispatchEvent(new CustomEvent("theme"));
  }

  // --- confirmation ---
  function confirmed(words) {
    const dialog = document.getElementById("confirm");
    const title = dialog.querySelector("h2");
    const yes = dialog.querySelector("[value=yes]");
    title.textContent = words.confirmTitle || title.dataset.default;
    yes.textContent = words.confirmAction || yes.dataset.default;
    dialog.querySelector("p").textContent = words.question;
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }
  document.addEventListener("htmx:confirm", async (event) => {
    if (!event.detail.question) return;
    event.preventDefault();
    const words = { ...event.detail.elt.dataset, question: event.detail.question };
    if (await confirmed(words)) event.detail.issueRequest(true);
  });
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const { submitter } = event;
    if (!form.dataset.confirm || form.dataset.isConfirmed) {
      // A second click must not send the form again.
      if (form.method === "post" && !event.defaultPrevented) {
        setTimeout(() => submitter && (submitter.disabled = true));
      }
      return;
    }
    event.preventDefault();
    if (!(await confirmed({ ...form.dataset, question: form.dataset.confirm }))) return;
    form.dataset.isConfirmed = "yes";
    form.requestSubmit(submitter);
    delete form.dataset.isConfirmed;
  });
  // Back from another page, as the browser kept it: the buttons work again.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) document.querySelectorAll("form button:disabled").forEach((b) => (b.disabled = false));
  });

  // --- tabs: arrows move, as people who use them expect ---
  function select(tab) {
    for (const other of tab.closest("[role=tablist]").querySelectorAll("[role=tab]")) {
      const isChosen = other === tab;
      other.setAttribute("aria-selected", String(isChosen));
      other.tabIndex = isChosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !isChosen;
    }
  }
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("[role=tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!tab || !step) return;
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });

  // --- clicks, menus, dialogs ---
  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest(selector);
    document.querySelectorAll("details[data-menu][open]").forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
    let found;
    if ((found = at("[data-copy], [data-copy-from]"))) copy(found);
    else if ((found = at("[role=tab]"))) select(found);
    else if ((found = at("[data-dismiss]"))) found.closest("[data-toast]").remove();
    else if ((found = at("[data-theme-choice]"))) {
      choose(found.dataset.themeChoice);
      found.closest("details").open = false;
    } else if ((found = at("[data-open-dialog]"))) document.getElementById(found.dataset.openDialog).showModal();
    else if ((found = at("[data-close-dialog]"))) found.closest("dialog").close();
    else if (event.target.matches("dialog")) event.target.close(); // beside it
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.activeElement.closest("details[data-menu][open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
})();
