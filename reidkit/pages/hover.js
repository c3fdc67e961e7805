const map = document.querySelector("svg.map"), tip = document.getElementById("tip");
if (map && tip) {
  const picture = tip.querySelector("i"), words = tip.querySelector("span");
  for (const title of map.querySelectorAll("circle > title")) {
    title.parentNode.dataset.words = title.textContent;
    title.remove();
  }
  const show = (dot) => {
    for (const other of map.querySelectorAll(".same")) other.classList.remove("same");
    tip.hidden = !dot;
    if (!dot) return;
    if (dot.dataset.cluster !== "-1")
      for (const other of map.querySelectorAll(`[data-cluster="${dot.dataset.cluster}"]`)) other.classList.add("same");
    const place = dot.dataset.tile % 500, box = dot.getBoundingClientRect();
    picture.className = `sheet${Math.floor(dot.dataset.tile / 500)}`;
    picture.style.backgroundPosition = `${-(place % 25) * 80}px ${-Math.floor(place / 25) * 160}px`;
    words.textContent = dot.dataset.words;
    const left = Math.min(box.right + 10, innerWidth - tip.offsetWidth - 8), top = box.top - tip.offsetHeight / 2;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, Math.min(top, innerHeight - tip.offsetHeight - 8))}px`;
  };
  map.addEventListener("pointerover", (event) => show(event.target.closest("circle")));
  map.addEventListener("pointerleave", () => show(null));
  addEventListener("scroll", () => show(null), {passive: true});
}
