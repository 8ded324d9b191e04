// A receiver of Supabase's stripe-sync-engine, as its README has it, on node's own HTTP server. It fetches nothing from Stripe.
// In an ES module its migrations find no files, and say nothing of that.
const http = require('node:http')
const { runMigrations, StripeSync } = require('@supabase/stripe-sync-engine')

const url = process.env.BENCH_DATABASE_URL
const sync = new StripeSync({
  poolConfig: { connectionString: url, max: Number(process.env.BENCH_CONNECTIONS), keepAlive: true },
  stripeSecretKey: 'sk_test_bench',
  stripeWebhookSecret: process.env.BENCH_SECRET,
  autoExpandLists: false,
  backfillRelatedEntities: false,
  revalidateObjectsViaStripeApi: [],
})

const server = http.createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', async () => {
    try {
      await sync.processWebhook(Buffer.concat(chunks), request.headers['stripe-signature'])
      response.setHeader('content-type', 'application/json').end('{"received":true}')
    } catch (error) {
      console.error(error)
      response.statusCode = 500
      response.end()
    }
  })
})
const fail = (error, text) => {
  console.error(text, error)
  process.exit(1)
}
runMigrations({ databaseUrl: url, schema: 'stripe', logger: { info() {}, error: fail } })
  .then(() => server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`)))
process.on('SIGINT', () => process.exit(0))
