package consul

import "time"

// Shift makes the Store's clock go ahead of CLOCK_BOOTTIME by what ahead
// returns. It is called before anything joins.
func (s *Store) Shift(ahead func() time.Duration) {
	s.now = func() time.Duration { return bootTime() + ahead() }
}

// Margin is how long before its TTL a session ends.
const Margin = margin

// EmptyGap is how long a Watch that finds nothing may see nothing.
const EmptyGap = emptyGap

// WatchLate is how long a Watch that finds nothing may believe that it may look.
const WatchLate = watchLate

// BootTime reads the clock that a session's Deadline is on.
func BootTime() time.Duration { return bootTime() }

// Slots is how many transactions later a session uses the same slot again.
const Slots = slots
