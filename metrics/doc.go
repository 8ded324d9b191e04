// Package metrics has Prometheus collectors of a receiver, its ledger, the subscriptions and reconciliation. It is a package
// of its own so that a receiver does not import the Prometheus client.
//
//	prometheus.MustRegister(
//		metrics.NewReceiver(receiver),         // deliveries by outcome, in flight, secrets, the pool
//		metrics.NewLedger(pool),               // failing events, lag, the newest event: read from PostgreSQL
//		metrics.NewSubscriptions(projection),  // how the order of events was settled
//		metrics.NewMirror(mirrored),           // the same for mirrored objects
//		metrics.NewReconcile(operator),        // missing events, with operations.Operator.ReconcileEvery
//		metrics.NewRetry(operator),            // retried events, with operations.Operator.RetryFailed
//		metrics.NewVerify(operator),           // drift, with operations.Operator.VerifyEvery
//		metrics.NewBuild(),                    // the version
//	)
//
// # Metrics, alerts and dashboard
//
// docs/monitoring.md lists every metric. deploy/prometheus has alerts, deploy/grafana a dashboard.
package metrics
