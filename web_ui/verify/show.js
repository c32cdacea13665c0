// Shows what check.js found, for a person with a phone.
//
// Owns the words and the layout of the answer. Text of the receipt goes in as text, never as markup.
"use strict";

const HEADLINES = {
  genuine: ["✓", "This slip is genuine"],
  false: ["✕", "This slip is not genuine"],
  unknown: ["?", "This slip cannot be checked here"],
  damaged: ["✕", "This code cannot be read"],
};
const ADVICE = {
  genuine: "",
  false: "Do not rely on it. Scan it once more; if the answer stays, show it to the shop.",
  unknown: "That says nothing about the slip. Try another browser, or ask the shop for the receipt as a file.",
};
const TENDERS = { cash: "Cash", card: "Card", paypal: "PayPal", usdc: "Crypto (USDC)", pin_pad: "Card", card_stated: "Card, stated by cashier", voucher: "Voucher" };

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const row = (left, right, kind = "row") => element("div", { class: kind }, element("span", {}, left), element("span", { class: "number" }, right));

function money(minor, currency, digits) {
  const sign = minor < 0 ? "-" : "";
  const text = String(Math.abs(minor)).padStart(digits + 1, "0");
  return sign + (digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text) + (currency ? ` ${currency}` : "");
}

function when(time, zone) {
  const options = { dateStyle: "medium", timeStyle: "short" };
  try {
    return new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone }).format(time);
  } catch {
    return new Intl.DateTimeFormat("en-GB", options).format(time);
  }
}

function givenBack(newest, plain, log) {
  if (!["refund", "reversal"].includes(newest.kind)) return [];
  const parts = [["Given back in cash", "cash"], ["Given back to the card", "card"], ["Given back to the card, stated by cashier", "stated"], ["Given back to the voucher", "voucher"]].filter(([, key]) => newest.body.get(key));
  return [
    ...parts.map(([name, key]) => row(name, plain(newest.body.get(key)))),
    ...(newest.body.get("left") ? [row("Still paid", plain(newest.body.get("left")))] : []),
    row("On", when(newest.time, log.zone), "row quiet"),
  ];
}

function slip({ sale, newest, standing, log, mark }, shop) {
  const currency = sale ? sale.get("currency") : newest.body.get("currency") || "";
  const digits = shop.digits[currency] ?? 2;
  const plain = (minor) => money(minor, "", digits);
  const rows = [];
  for (const line of sale ? sale.get("lines") : []) {
    const count = line.get("quantity_thousandths") ?? 1000;
    const gross = Math.floor((count * line.get("unit_price_minor") + 500) / 1000);
    const times = count === 1000 ? "" : `${count / 1000} × ${plain(line.get("unit_price_minor"))}  `;
    rows.push(row(times + (line.get("sku") || "Amount"), plain(gross)));
    if (line.get("discount_minor")) rows.push(row("Discount", plain(-line.get("discount_minor")), "row quiet"));
  }
  if (sale) {
    for (const tax of sale.get("taxes") || []) {
      const name = `${sale.get("prices") === "tax_added" ? "Tax" : "incl. tax"} ${tax.get("tax_code")} ${tax.get("rate_basis_points") / 100} %`;
      rows.push(row(name, plain(tax.get("tax_minor")), "row quiet"));
    }
    const isPart = sale.get("part_of") || sale.get("remaining") || sale.get("partial");
    rows.push(row(sale.get("part_of") ? "This part of a sale" : "Total", money(sale.get("total"), currency, digits), "row total"));
    if (isPart && !sale.get("part_of")) rows.push(row("This slip is for one part of it", plain(covered(sale, newest)), "row quiet"));
    for (const [name, key] of [["Tip", "tip"], ["Cash rounding", "rounding"]]) {
      if (sale.get(key)) rows.push(row(name, plain(sale.get(key)), "row quiet"));
    }
    const isTaken = ["paid", "partly_refunded", "refunded", "reversed"].includes(standing);
    for (const tender of sale.get("tenders")) {
      const name = TENDERS[tender.get("kind")] || tender.get("kind");
      rows.push(row(isTaken ? name : `${name}, asked for`, plain(tender.get("amount_minor")), "row quiet"));
    }
    if (isTaken && sale.get("change")) rows.push(row("Change", plain(-sale.get("change")), "row quiet"));
  }
  rows.push(...givenBack(newest, plain, log));
  return element(
    "section",
    { class: "slip" },
    element("p", { class: `standing ${standing}` }, STANDINGS[standing]),
    element("p", { class: "quiet" }, `${when(sale ? sale.get("sold_at_ms") : newest.time, log.zone)}, ${newest.actor.replace("terminal:", "")}`),
    ...rows,
    element("p", { class: "quiet" }, `Entry ${newest.seq} of ${log.origin}. The same 64 characters stand on the paper:`),
    element("p", { class: "mark" }, mark.slice(0, 32), element("br", {}), mark.slice(32)),
  );
}

function limits(shop) {
  const owner = shop ? shop.owner.match(/.{4}/g).join(" ") : "";
  const list = [
    "Whether the sale was refunded later. The slip is as old as its print.",
    "That it holds against a quantum computer. For that there is a second signature, too large for a code: ask the shop for the receipt as a file.",
    "That this page is honest. It is as honest as whoever gave it to you.",
  ];
  return element(
    "section",
    {},
    element("h2", {}, "What this does not prove"),
    element("ul", {}, ...list.map((text) => element("li", {}, text))),
    shop && element("h2", {}, "Who the shop is"),
    shop && element("p", {}, `The owner of ${shop.name} is known by this fingerprint. Compare it with the one that hangs in the shop:`),
    shop && element("p", { class: "mark" }, owner),
  );
}

// What this payment pays of its sale: of a part, that part; of a card that gave less than it was asked for, that.
function covered(sale, newest) {
  const took = newest.kind === "outcome" ? newest.body.get("amount") : null;
  return took ?? sale.get("total") - (sale.get("remaining") || 0);
}

function spoken({ sale, newest, standing }, shop) {
  const currency = sale ? sale.get("currency") : "";
  const digits = shop.digits[currency] ?? 2;
  const total = sale ? `, ${money(covered(sale, newest), currency, digits)}` : "";
  return `It says: ${STANDINGS[standing].toLowerCase()}${total}`;
}

function show(result, shop) {
  const [sign, headline] = HEADLINES[result.isDamaged ? "damaged" : result.verdict];
  const isGenuine = result.verdict === "genuine";
  const main = element(
    "main",
    {},
    element("header", { class: result.verdict }, element("span", { class: "sign", "aria-hidden": "true" }, sign), element("div", {}, element("h1", {}, headline), isGenuine ? element("p", {}, spoken(result, shop)) : null)),
    ADVICE[result.verdict] ? element("p", {}, ADVICE[result.verdict]) : null,
    isGenuine ? slip(result, shop) : null,
    element("section", {}, element("h2", {}, "What was checked, in this browser"),
      element("ol", { class: "steps" }, ...result.steps.map((step) => element("li", { class: step.ok ? "yes" : result.verdict }, step.text)))),
    isGenuine ? limits(shop) : null,
  );
  document.body.replaceChildren(main);
  document.documentElement.dataset.verdict = result.verdict;
}

async function start() {
  const shop = JSON.parse(document.getElementById("shop").textContent);
  const run = async () => {
    if (location.hash.length > 1) show(await check(location.hash.slice(1), shop), shop);
  };
  addEventListener("hashchange", run);
  await run();
}

start();
