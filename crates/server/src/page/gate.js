"use strict";

const state = document.getElementById("state");
const counts = ["connections", "sessions", "packets_in", "packets_out"];

// Only textContent: whatever arrives is shown, never run.
async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store" });
    const status = await answer.json();
    for (const name of counts) {
      document.getElementById(name).textContent = Number(status[name]).toLocaleString("en");
    }
    state.textContent = status.ready ? "takes clients" : "is stopping";
    state.classList.toggle("bad", !status.ready);
  } catch {
    state.textContent = "does not answer";
    state.classList.add("bad");
  }
  setTimeout(refresh, 1000);
}

refresh();
