package backends

import "time"

// Watched is a Backend that finds out by itself whether its storage answers.
type Watched interface {
	// Silent returns for how long the storage has not answered this host, or 0 if it
	// answers or nothing is known of it. It asks nothing of the storage.
	Silent() time.Duration
}
