package guard

import (
	"math"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/cut"
)

func TestJudge(t *testing.T) {
	const s = time.Second
	lease := Order{Deadline: 100 * s, CutTime: 5 * s}
	replaced := Order{Deadline: 100 * s, CutTime: 5 * s, Now: true}
	kept := Order{Deadline: math.MaxInt64, CutTime: 5 * s, Now: true}
	short := Order{Deadline: 100 * s, CutTime: s / 2}
	for name, c := range map[string]struct {
		order    Order
		progress progress
		mounted  bool
		now      time.Duration
		want     verdict
	}{
		"before the end":                        {lease, progress{}, true, 100*s - 1, verdict{}},
		"at the end":                            {lease, progress{}, true, 100 * s, verdict{cut: true}},
		"already begun":                         {lease, progress{began: 100 * s}, true, 101 * s, verdict{cut: true}},
		"begun, and unmounted, is not verified": {lease, progress{began: 100 * s}, false, 104 * s, verdict{cut: true}},
		"just in time":                          {lease, progress{began: 100 * s}, true, 105*s - 1, verdict{cut: true}},
		"not verified in time":                  {lease, progress{began: 100 * s}, true, 105 * s, verdict{cut: true, reboot: true}},
		"unmounted, not verified in time":       {lease, progress{began: 100 * s}, false, 105 * s, verdict{cut: true, reboot: true}},
		"verified":                              {lease, progress{100 * s, 101 * s}, false, 101 * s, verdict{}},
		"verified long ago":                     {lease, progress{100 * s, 101 * s}, false, 1000 * s, verdict{}},
		"mounted again":                         {lease, progress{100 * s, 101 * s}, true, 1000 * s, verdict{cut: true}},
		"mounted again, begun":                  {lease, progress{began: 1000 * s}, true, 1005*s - 1, verdict{cut: true}},
		"mounted again, not cut":                {lease, progress{began: 1000 * s}, true, 1005 * s, verdict{cut: true, reboot: true}},
		"a guard that is late":                  {lease, progress{}, true, 500 * s, verdict{cut: true}},
		"late, begun":                           {lease, progress{began: 500 * s}, true, 505*s - 1, verdict{cut: true}},
		"late, not verified":                    {lease, progress{began: 500 * s}, true, 505 * s, verdict{cut: true, reboot: true}},
		"a little late":                         {lease, progress{began: 103 * s}, true, 105*s - 1, verdict{cut: true}},
		"a little late, not verified":           {lease, progress{began: 103 * s}, true, 105 * s, verdict{cut: true, reboot: true}},
		"so late that it may be in time":        {lease, progress{began: 104 * s}, true, 105 * s, verdict{cut: true, reboot: true}},
		"so late that it can't be":              {lease, progress{began: 104*s + 1}, true, 109 * s, verdict{cut: true}},
		"that late, not verified":               {lease, progress{began: 104*s + 1}, true, 109*s + 1, verdict{cut: true, reboot: true}},
		"renewed after it began":                {Order{Deadline: 200 * s, CutTime: 5 * s}, progress{began: 100 * s}, true, 150 * s, verdict{}},
		"replaced":                              {replaced, progress{}, true, 50 * s, verdict{cut: true}},
		"replaced, no reboot before the end":    {replaced, progress{began: 50 * s}, true, 100 * s, verdict{cut: true}},
		"replaced, before the lease was over":   {replaced, progress{began: 50 * s}, true, 105*s - 1, verdict{cut: true}},
		"replaced, and the lease is over":       {replaced, progress{began: 50 * s}, true, 105 * s, verdict{cut: true, reboot: true}},
		"replaced, verified":                    {replaced, progress{50 * s, 51 * s}, false, 200 * s, verdict{}},
		"replaced, no lease":                    {kept, progress{began: 50 * s}, true, 1e6 * s, verdict{cut: true}},
		"replaced, no lease, verified":          {kept, progress{50 * s, 51 * s}, false, 1e6 * s, verdict{}},
		"less than a second":                    {short, progress{began: 100*s + 1}, true, 100*s + s/2, verdict{cut: true}},
		"less than a second, not verified":      {short, progress{began: 100*s + 1}, true, 100*s + s/2 + 1, verdict{cut: true, reboot: true}},
	} {
		if got := judge(c.order, c.progress, c.mounted, c.now); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// A watchdog starves from the end of the lease on, not only when it is too late.
func TestLate(t *testing.T) {
	const s = time.Second
	lease := Order{Deadline: 100 * s, CutTime: 5 * s}
	replaced := Order{Deadline: 100 * s, CutTime: 5 * s, Now: true}
	for name, c := range map[string]struct {
		order    Order
		progress progress
		now      time.Duration
		want     bool
	}{
		"before the end":     {lease, progress{}, 100*s - 1, false},
		"at the end":         {lease, progress{}, 100 * s, true},
		"begun":              {lease, progress{began: 100 * s}, 101 * s, true},
		"verified":           {lease, progress{100 * s, 101 * s}, 101 * s, false},
		"replaced":           {replaced, progress{began: 50 * s}, 60 * s, false},
		"replaced, and over": {replaced, progress{began: 50 * s}, 100 * s, true},
	} {
		if got := c.order.late(c.progress, c.now); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestCheckOrders(t *testing.T) {
	good := Order{Volume: cut.Volume{ID: "a", Mountpoint: "/mnt/a"}, Deadline: 1, CutTime: 1}
	change := func(f func(*Order)) Order { o := good; f(&o); return o }
	for name, c := range map[string]struct {
		orders []Order
		valid  bool
	}{
		"none":              {nil, true},
		"one":               {[]Order{good}, true},
		"two":               {[]Order{good, change(func(o *Order) { o.ID = "b" })}, true},
		"twice":             {[]Order{good, good}, false},
		"no ID":             {[]Order{change(func(o *Order) { o.ID = "" })}, false},
		"no mountpoint":     {[]Order{change(func(o *Order) { o.Mountpoint = "" })}, false},
		"relative":          {[]Order{change(func(o *Order) { o.Mountpoint = "mnt/a" })}, false},
		"no deadline":       {[]Order{change(func(o *Order) { o.Deadline = 0 })}, false},
		"negative deadline": {[]Order{change(func(o *Order) { o.Deadline = -1 })}, false},
		"no time":           {[]Order{good, change(func(o *Order) { o.ID = "b"; o.CutTime = 0 })}, false},
	} {
		if err := checkOrders(c.orders); (err == nil) != c.valid {
			t.Errorf("%s: got %v, want valid: %v", name, err, c.valid)
		}
	}
}
