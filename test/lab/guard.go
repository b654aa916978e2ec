package lab

import (
	"context"
	"fmt"
	"os"
	"time"
)

// newGuard describes the host's guard, which is ready once it has written what
// it did.
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
			return append([]string{h.dvold, "guard", "--config", "/etc/dvol/dvold.yaml"}, args...)
		},
	}
}
