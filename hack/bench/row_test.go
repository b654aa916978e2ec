package main

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = time.Duration(i + 1)
	}
	tests := []struct {
		samples []time.Duration
		p       int
		want    time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 50, 7},
		{[]time.Duration{7}, 99, 7},
		{[]time.Duration{3, 1, 2}, 50, 2},
		{[]time.Duration{4, 3, 2, 1}, 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred[:20], 99, 100},
	}
	for _, tt := range tests {
		if got := percentile(tt.samples, tt.p); got != tt.want {
			t.Errorf("percentile %d of %v = %d, want %d", tt.p, tt.samples, got, tt.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("the samples were changed")
	}
}

func TestInTurnLetsEachBegin(t *testing.T) {
	things := []string{"a", "b", "c"}
	var first []string
	for i := range 2 * len(things) {
		got := inTurn(i, things...)
		first = append(first, got[0])
		slices.Sort(got)
		if !slices.Equal(got, things) {
			t.Errorf("round %d: %v, want each of %v once", i, got, things)
		}
	}
	if want := []string{"a", "b", "c", "a", "b", "c"}; !slices.Equal(first, want) {
		t.Errorf("the rounds begin with %v, want %v", first, want)
	}
}

func TestInterleaveKeepsOnlyWhatSucceeds(t *testing.T) {
	s := series{}
	calls := 0
	failure := errors.New("full")
	err := interleave(5, s,
		step{"good", func() error { return nil }},
		step{"bad", func() error {
			if calls++; calls == 3 {
				return failure
			}
			return nil
		}})
	if !errors.Is(err, failure) {
		t.Errorf("interleave = %v, want %v", err, failure)
	}
	if good, bad := len(s["good"]), len(s["bad"]); good != 3 || bad != 2 {
		t.Errorf("%d and %d samples, want 3 and 2", good, bad)
	}
}

func TestTargets(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		name        string
		row         row
		met, target bool
	}{
		{"none", row{Took: []time.Duration{ms}}, false, false},
		{"under", row{Took: []time.Duration{ms}, Under: 2 * ms}, true, true},
		{"not under", row{Took: []time.Duration{2 * ms}, Under: 2 * ms}, false, true},
		{"within", row{Took: []time.Duration{3 * ms}, Base: []time.Duration{ms}, Within: 3}, true, true},
		{"not within", row{Took: []time.Duration{4 * ms}, Base: []time.Duration{ms}, Within: 3}, false, true},
		{"each at most", row{Took: []time.Duration{ms, 3 * ms}, Most: 3 * ms}, true, true},
		{"one more than most", row{Took: []time.Duration{ms, ms, ms + 1}, Most: ms}, false, true},
		{"median counts", row{Took: []time.Duration{ms, ms, 90 * ms}, Under: 2 * ms}, true, true},
	}
	for _, tt := range tests {
		if met, target := tt.row.met(); met != tt.met || target != tt.target {
			t.Errorf("%s: met, target = %t, %t; want %t, %t", tt.name, met, target, tt.met, tt.target)
		}
	}
}
