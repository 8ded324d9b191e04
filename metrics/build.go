package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/buildinfo"
)

// NewBuild returns the collector of stripeonce_build_info, which says in its labels which build of stripeonce the program contains.
func NewBuild() prometheus.Collector {
	build := buildinfo.Read()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "stripeonce_build_info", Help: "Constant 1, whose labels name the version, commit and Go version of stripeonce.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "go_version": build.GoVersion},
	})
	gauge.Set(1)
	return gauge
}
