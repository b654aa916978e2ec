package adminapi

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/volumes"
)

// newMetrics has the metrics of dvold, of that version, and no others.
// docs/metrics.md explains each.
func newMetrics(v *volumes.Manager, version string) *prometheus.Registry {
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	r := prometheus.NewRegistry()
	r.MustRegister(collector{v, []metric{
		several("dvol_info", "The program.", "version",
			func(volumes.Stats) map[string]int { return map[string]int{version: 1} }),
		several("dvol_mounted_volumes", "Volumes that this host has mounted.", "pool",
			func(s volumes.Stats) map[string]int { return s.Mounted }),
		several("dvol_uses", "Mounts that Docker has asked for and not undone.", "pool",
			func(s volumes.Stats) map[string]int { return s.Uses }),
		several("dvol_pool_silent_seconds", "How long the pool's storage has not answered.", "pool",
			func(s volumes.Stats) map[string]int { return s.Silent }),
		several("dvol_exclusive_volumes", "Exclusive volumes that this host owns, or has mounted all the same.", "phase",
			func(s volumes.Stats) map[string]int { return s.Exclusive }),
		one(counter, "dvol_takeovers_total", "Exclusive volumes that this host took over from a silent one.",
			func(s volumes.Stats) float64 { return float64(s.Takeovers) }),
		one(counter, "dvol_losses_total", "Exclusive volumes that this host was cut off from.",
			func(s volumes.Stats) float64 { return float64(s.Losses) }),
		one(gauge, "dvol_in_cluster", "Whether this host has a session in the cluster.",
			func(s volumes.Stats) float64 { return truth(s.InCluster) }),
		one(gauge, "dvol_lease_seconds", "How much longer this host may believe in its session.",
			func(s volumes.Stats) float64 { return seconds(s.Lease) }),
		one(gauge, "dvol_coordinator_reachable", "Whether the coordinator answers.",
			func(s volumes.Stats) float64 { return truth(s.Reachable) }),
		one(gauge, "dvol_coordinator_doubted", "Whether the coordinator's records are not believed.",
			func(s volumes.Stats) float64 { return truth(s.Doubted) }),
		one(gauge, "dvol_guarded", "Whether a guard runs beside dvold.",
			func(s volumes.Stats) float64 { return truth(s.Guarded) }),
		one(gauge, "dvol_fenced", "Whether other hosts may have cut this one off, and that is not undone.",
			func(s volumes.Stats) float64 { return truth(s.Fenced) }),
	}})
	return r
}

// collector shows how a host stands, as of when somebody asks.
type collector struct {
	volumes *volumes.Manager
	metrics []metric
}

// metric is one of those that a collector shows.
type metric struct {
	desc *prometheus.Desc
	read func(s volumes.Stats, show show)
}

// show takes one value of a metric, with those of its labels.
type show func(kind prometheus.ValueType, value float64, labels ...string)

// one is a metric of one value.
func one(kind prometheus.ValueType, name, help string, read func(volumes.Stats) float64) metric {
	return metric{prometheus.NewDesc(name, help, nil, nil), func(s volumes.Stats, show show) { show(kind, read(s)) }}
}

// several is a gauge of several values, which are told apart by a label.
func several(name, help, label string, read func(volumes.Stats) map[string]int) metric {
	return metric{prometheus.NewDesc(name, help, []string{label}, nil), func(s volumes.Stats, show show) {
		for of, n := range read(s) {
			show(prometheus.GaugeValue, float64(n), of)
		}
	}}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		descs <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(values chan<- prometheus.Metric) {
	s := c.volumes.Stats()
	for _, m := range c.metrics {
		m.read(s, func(kind prometheus.ValueType, value float64, labels ...string) {
			values <- prometheus.MustNewConstMetric(m.desc, kind, value, labels...)
		})
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds is infinite for a lease that does not end by itself.
func seconds(lease time.Duration) float64 {
	if lease == coordination.Never {
		return math.Inf(1)
	}
	return lease.Seconds()
}

// getMetrics answers in Prometheus' text format.
func (s *Server) getMetrics(w http.ResponseWriter, _ *http.Request) {
	families, err := s.metrics.Gather()
	var text bytes.Buffer
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	to := expfmt.NewEncoder(&text, format)
	for _, f := range families {
		err = errors.Join(err, to.Encode(f))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	w.Write(text.Bytes())
}
