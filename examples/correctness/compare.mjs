// Compares a receiver's tables with Stripe's truth: node compare.mjs TRUTH URL, where TRUTH is what stripeonce simulate wrote and
// URL answers {"subscriptions": [{id, status, cancel_at_period_end, items: [{price, quantity}]}], "credits": [{invoice}]}. It exits
// with 1 if something is wrong.
import { readFileSync } from 'node:fs'

const [truthFile, url] = process.argv.slice(2)
const objects = readFileSync(truthFile, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
const truth = objects.filter(({ object }) => object === 'subscription')
const tables = await (await fetch(url)).json()
const rows = new Map(tables.subscriptions.map((row) => [row.id, row]))

const pays = (status) => status === 'active' || status === 'trialing'
const itemsOf = (items) => items.map(({ price, quantity }) => `${price.id ?? price} ${quantity}`).sort().join()

// fault says what is wrong with a row, if anything is.
function fault(stripe, row) {
  if (!row) return 'missing here'
  if (pays(row.status) && !pays(stripe.status)) return 'active here, not paid for at Stripe: these customers use it for nothing'
  if (!pays(row.status) && pays(stripe.status)) return 'not active here, paid for at Stripe: these customers are locked out'
  const same =
    row.status === stripe.status &&
    row.cancel_at_period_end === stripe.cancel_at_period_end &&
    itemsOf(row.items) === itemsOf(stripe.items.data)
  return same ? undefined : 'with another status, other items or quantities, or another cancellation'
}

function countBy(list, key) {
  const counts = new Map()
  for (const element of list) counts.set(key(element), (counts.get(key(element)) ?? 0) + 1)
  return counts
}

const faults = countBy(truth, (stripe) => fault(stripe, rows.get(stripe.id)))
const wrong = truth.length - (faults.get(undefined) ?? 0)
console.log(`${truth.length} subscriptions, ${wrong} rows wrong`)
for (const [text, n] of [...faults].sort()) {
  if (text) console.log(`  ${n} ${text}`)
}
const paid = objects.filter(({ object, status }) => object === 'invoice' && status === 'paid')
const credits = countBy(tables.credits, ({ invoice }) => invoice)
const often = [...credits.values()].filter((n) => n > 1).length
const lost = paid.filter(({ id }) => !credits.has(id)).length
console.log(`${paid.length} payments, ${often} credited more than once, ${lost} missing`)
process.exit(wrong + often + lost > 0 ? 1 : 0)
