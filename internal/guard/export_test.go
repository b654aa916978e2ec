package guard

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// BootTime is the clock of orders.
func BootTime() time.Duration { return host.BootTime() }

// SetClock gives the book another clock.
func (b *Book) SetClock(now func() time.Duration) { b.now = now }

// Take takes a guard's lock.
func Take(dir string) (*os.File, error) { return take(dir) }

// BeatIn returns when the guard of a directory was there last.
func BeatIn(dir string) (time.Duration, error) {
	var f outcomes
	text, err := os.ReadFile(filepath.Join(dir, outcomesFile))
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &f)
	}
	return f.Beat, err
}
