// Shows the items that have the chosen value of every tag.
const items = [...document.querySelectorAll(".case")], filters = [...document.querySelectorAll("[data-filter]")];

function filter() {
  for (const item of items) {
    item.hidden = filters.some((of) => of.value && item.getAttribute(`data-${of.dataset.filter}`) !== of.value);
  }
  const shown = items.filter((item) => !item.hidden).length;
  document.getElementById("shown").textContent = `${shown} of ${items.length} items`;
}

for (const of of filters) of.addEventListener("change", filter);
filter();
