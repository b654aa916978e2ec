package main

import (
	"slices"
	"time"
)

// results are what the stages hand to each other and the table shows.
type results struct {
	Facts   []string // of the machine
	Rows    []row
	Figures []figure
	Sizes   []size
}

// add appends what was measured besides.
func (r *results) add(more results, err error) error {
	r.Rows = append(r.Rows, more.Rows...)
	r.Figures = append(r.Figures, more.Figures...)
	r.Sizes = append(r.Sizes, more.Sizes...)
	return err
}

// row is a measure and the baseline it was taken beside.
type row struct {
	What     string
	Took     []time.Duration
	Baseline string // empty if there is none
	Base     []time.Duration
	Under    time.Duration // the target for the median; 0 if there is none
	Within   float64       // the target for the ratio of the medians; 0 if there is none
	Most     time.Duration // the target for each sample; 0 if there is none
	Why      string        // of Most
	Mostly   time.Duration // the target for the p99; 0 if there is none
}

// met tells whether the row reaches its target, if it has one.
func (r row) met() (met, target bool) {
	switch {
	case r.Under > 0:
		return percentile(r.Took, 50) < r.Under, true
	case r.Within > 0:
		return r.ratio() <= r.Within, true
	case r.Most > 0:
		return percentile(r.Took, 100) <= r.Most, true
	case r.Mostly > 0:
		return percentile(r.Took, 99) < r.Mostly, true
	}
	return false, false
}

// ratio is how many times the median of the baseline the measure takes.
func (r row) ratio() float64 {
	return float64(percentile(r.Took, 50)) / float64(percentile(r.Base, 50))
}

// figure is a measure that is no time.
type figure struct {
	What     string
	Value    float64
	Unit     string
	Baseline string // empty if there is none
	Base     float64
	Within   float64 // the target for the ratio to the baseline; 0 if there is none
}

// ratio is how many times the baseline it is.
func (f figure) ratio() float64 { return f.Value / f.Base }

// percentile is the smallest sample that p per cent of all don't exceed.
func percentile(samples []time.Duration, p int) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[(len(sorted)*p+99)/100-1]
}

// series are samples by what they measure.
type series map[string][]time.Duration

// time adds a sample: how long fn takes.
func (s series) time(what string, fn func() error) error {
	began := time.Now()
	if err := fn(); err != nil {
		return err
	}
	s[what] = append(s[what], time.Since(began))
	return nil
}

// row is the row of a measure and its baseline.
func (s series) row(what, baseline string) row {
	return row{What: what, Took: s[what], Baseline: baseline, Base: s[baseline]}
}

// inTurn returns things in an order that changes with each round i, so that
// none always profits from, or suffers by, the one before.
func inTurn[T any](i int, things ...T) []T {
	i %= len(things)
	return slices.Concat(things[i:], things[:i])
}
