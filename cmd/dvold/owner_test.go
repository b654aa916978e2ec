package main

import (
	"fmt"
	"testing"

	"github.com/dvol/dvold/internal/volumes"
)

// Of what becomes of an owner at the end of its lease it is said, too, that nobody sees to it.
func TestLeaseOfOwner(t *testing.T) {
	for want, o := range map[string]volumes.Owner{
		"10s, then cut, guarded, ends in 7s": {OnSessionLoss: "cut", Guarded: true, LeaseEnds: "7s"},
		"10s, then cut, not guarded":         {OnSessionLoss: "cut"},
		"10s, then keep":                     {OnSessionLoss: "keep"},
		"10s, then keep, guarded":            {OnSessionLoss: "keep", Guarded: true},
	} {
		o.Host, o.LeaseTTL = "node1", "10s"
		got := make(map[string]string)
		ownerRows(func(cells ...any) { got[fmt.Sprint(cells[0])] = fmt.Sprint(cells[1]) }, o)
		if got["Lease:"] != want {
			t.Errorf("%+v: got %q, want %q", o, got["Lease:"], want)
		}
	}
}
