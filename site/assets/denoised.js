/* Two conveniences; everything can be read, browsed and copied without them. */
(() => {
  "use strict";

  // The root page sends a reader back to the language that they last chose.
  for (const link of document.querySelectorAll("[data-dn-language]")) {
    link.addEventListener("click", () => {
      try {
        localStorage.setItem("denoised.language", link.dataset.dnLanguage);
      } catch {
        // No storage: the root page goes by the browser's languages.
      }
    });
  }

  // The list of papers narrows as one types or chooses.
  const form = document.querySelector(".dn-filter");
  if (form === null) return;
  const cards = [...document.querySelectorAll(".dn-card")].map((card) => ({
    card,
    text: card.textContent.normalize("NFC").toLowerCase(),
  }));
  const narrow = () => {
    const words = form.elements.text.value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { card, text } of cards) {
      const fits =
        words.every((word) => text.includes(word)) &&
        ["category", "year", "status"].every((name) => {
          const wanted = form.elements[name].value;
          return wanted === "" || card.dataset[name] === wanted;
        });
      card.hidden = !fits;
      shown += fits;
    }
    form.querySelector("output").textContent = shown === 0 ? form.dataset.none : `${shown} / ${cards.length}`;
  };
  form.addEventListener("input", narrow);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  narrow();
})();
