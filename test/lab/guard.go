package lab

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// newGuard describes the host's guard, which is ready once it has written what
// it did. It has no real-time priority: all hosts of the lab share one kernel,
// and a guard that has much to do, built with the race detector, would starve
// the guards of the others.
func newGuard(h *Host) *Daemon {
	answers := func(context.Context) error {
		if _, err := os.Stat(h.Path("run/dvol/guard/outcomes.json")); err != nil {
			return fmt.Errorf("no sign of life: %w", err)
		}
		return nil
	}
	return &Daemon{
		name: "guard", m: h.Machine, answers: answers, patience: 30 * time.Second,
		argv: func(args []string) []string {
			return slices.Concat(h.clock, []string{"setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", h.dvold, "guard", "--config", "/etc/dvol/dvold.yaml"}, args)
		},
	}
}
