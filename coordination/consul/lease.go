package consul

import "time"

// margin is how long before the end of a TTL a session is given up, for clocks
// that differ in speed and for the host to take note.
const margin = 300 * time.Millisecond

// lease says how long a session may be believed in. It knows no clock and asks
// nobody: times are CLOCK_BOOTTIME, given by the caller.
//
// Consul counts the TTL, twice, from when it got a renewal, and we count it,
// once, from before we sent it. So ours is over first, whatever happens to the
// answer; and once over it stays so, whatever Consul says later.
//
// A session that ends early, because it is destroyed, is believed in for less
// than a TTL more: a renewal counts only if the session is seen to live after
// it was sent.
type lease struct {
	ttl     time.Duration
	renewed time.Duration // when the last renewal that counts was sent; at first, when the session was asked for
	over    bool
}

// end is when the lease is over if nothing more is heard.
func (l *lease) end() time.Duration { return l.renewed + l.ttl - margin }

// left returns how long the lease goes on if nothing more is heard, or 0.
func (l *lease) left(now time.Duration) time.Duration {
	if left := l.end() - now; left > 0 && !l.over {
		return left
	}
	l.over = true
	return 0
}

// renew counts a renewal that was sent and answered at these times, unless the
// answer came too late. It tells whether the lease goes on.
func (l *lease) renew(sent, answered time.Duration) bool {
	if l.left(answered) == 0 {
		return false
	}
	l.renewed = max(l.renewed, sent)
	return true
}
