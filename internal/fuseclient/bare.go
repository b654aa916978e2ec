package fuseclient

import (
	"context"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// Bare is a client that was started, and nothing more: its caller waits until it has
// mounted its file system, and sees to it.
type Bare struct{ p *process }

// Start starts a client with arguments of which the last is its mountpoint. It outlives
// dvold, and At finds it.
func (k Kind) Start(args []string) (*Bare, error) {
	p, err := k.spawn(args)
	if err != nil {
		return nil, err
	}
	return &Bare{p}, nil
}

// Ended is closed once the client has ended.
func (b *Bare) Ended() <-chan struct{} { return b.p.ended }

// Output is the end of what it has written so far.
func (b *Bare) Output() string { return b.p.output() }

// Close lets go of what the client writes, and leaves it running.
func (b *Bare) Close() error { return b.p.said.Close() }

// Kill ends a client, which is told by its start from a later process of that number.
// One that has ended is no error.
func Kill(p host.Process) error { return kill(p) }

// AwaitEnd waits until a client has ended, for some time. It is ErrInUse if it does not.
func AwaitEnd(ctx context.Context, p host.Process, most time.Duration) error {
	return awaitEnd(ctx, p, most)
}
