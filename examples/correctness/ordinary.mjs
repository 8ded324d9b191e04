// An ordinary receiver of Stripe's webhooks, as in many tutorials: it verifies the signature, looks whether it knows the event,
// acts, and records the event. It is incorrect on purpose: see docs/is-your-handler-correct.md.
//
//   node ordinary.mjs             check, act, record; the last writer wins
//   node ordinary.mjs --careful   record first; an event that is older than the row changes nothing
//
// As every receiver does sometimes, it fails: on the first attempt of one event in 20, where it acts. Stripe retries then.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const { STRIPE_WEBHOOK_SECRET: secret, PORT: port = 3000 } = process.env
const careful = process.argv.includes('--careful')

// Its tables are in memory, but as in a database each query takes a moment.
const events = new Set()
const subscriptions = new Map()
const credits = []
const failed = new Set()
async function query(run) {
  await sleep(1)
  return run()
}

async function receive(event) {
  if (careful) {
    // INSERT … ON CONFLICT DO NOTHING
    const isNew = await query(() => !events.has(event.id) && events.add(event.id))
    if (isNew) await apply(event)
    return
  }
  if (await query(() => events.has(event.id))) return // check,
  await apply(event) // act,
  await query(() => events.add(event.id)) // and record
}

async function apply({ id, type, created, data: { object } }) {
  if (Buffer.from(id).reduce((sum, byte) => sum + byte) % 20 === 0 && !failed.has(id)) {
    failed.add(id)
    throw new Error('a timeout, a deadlock, a deploy, …')
  }
  if (type.startsWith('customer.subscription.')) {
    const row = {
      id: object.id,
      status: object.status,
      cancel_at_period_end: object.cancel_at_period_end,
      items: object.items.data.map((item) => ({ price: item.price.id, quantity: item.quantity })),
      event_created: created,
    }
    await query(() => {
      if (careful && subscriptions.get(row.id)?.event_created > created) return
      subscriptions.set(row.id, row) // the last writer wins
    })
  } else if (type === 'invoice.paid') {
    await query(() => credits.push({ invoice: object.id, customer: object.customer, cents: object.amount_paid }))
  }
}

// verified checks the header Stripe-Signature: https://docs.stripe.com/webhooks#verify-manually
function verified(body, header = '') {
  const values = header.split(',').map((part) => part.split('='))
  const [, time] = values.find(([key]) => key === 't') ?? []
  const expected = createHmac('sha256', secret).update(`${time}.${body}`).digest()
  return values.some(([key, value]) => {
    const given = Buffer.from(value ?? '', 'hex')
    return key === 'v1' && given.length === expected.length && timingSafeEqual(given, expected)
  })
}

createServer(async (req, res) => {
  if (req.url === '/tables') {
    return res.end(JSON.stringify({ subscriptions: [...subscriptions.values()], credits }))
  }
  let body = ''
  for await (const chunk of req) body += chunk
  if (!verified(body, req.headers['stripe-signature'])) return res.writeHead(400).end()
  const status = await receive(JSON.parse(body)).then(() => 200, () => 500)
  res.writeHead(status).end()
}).listen(port, '127.0.0.1', () => console.log(`an ordinary receiver: http://127.0.0.1:${port}/webhooks/stripe`))
