// Package metrics exports a receiver's numbers to Prometheus: deliveries by outcome, failing events, drift and more. It is a package of
// its own so that a receiver does not import the Prometheus client.
//
// Each function returns a collector. Register those of the features that you use, each once with a registry:
//
//	prometheus.MustRegister(
//		metrics.NewReceiver(receiver),        // deliveries by outcome, in flight, signing secrets, the pool
//		metrics.NewLedger(pool),              // failing and parked events, the newest event: read from PostgreSQL
//		metrics.NewSubscriptions(projection), // how the order of subscriptions' events was settled
//		metrics.NewMirror(mirrored),          // the same for mirrored objects
//		metrics.NewReconcile(operator),       // missing events, with operations.Operator.ReconcileEvery
//		metrics.NewRetry(operator),           // retried events, with operations.Operator.RetryFailed
//		metrics.NewVerify(operator),          // drift, with operations.Operator.VerifyEvery
//		metrics.NewBuild(),                   // the version, in labels
//	)
//
// All names begin with stripeonce_. The repository's docs/monitoring.md lists every metric, deploy/prometheus has alerts, and
// deploy/grafana has a dashboard.
package metrics
