package consul

import "time"

// Shift makes the Store's clock go ahead of CLOCK_BOOTTIME by what ahead
// returns. It is called before anything joins.
func (s *Store) Shift(ahead func() time.Duration) {
	s.now = func() time.Duration { return bootTime() + ahead() }
}

// Margin is how long before its TTL a session ends.
const Margin = margin

// BootTime reads the clock that a session's Deadline is on.
func BootTime() time.Duration { return bootTime() }

// Slots is how many transactions later a session uses the same slot again.
const Slots = slots
