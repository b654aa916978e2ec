package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// waitFor calls check until it returns nil, at short intervals. It gives up,
// with the last error of check, when ctx ends or p does.
func waitFor(ctx context.Context, p *process, check func() error) error {
	err := try(ctx, 20*time.Millisecond, p.done, check)
	if errors.Is(err, errEnded) {
		return fmt.Errorf("%w (%v): %s", errEnded, p.err, tail(p.log))
	}
	return err
}

// poll calls check until it returns nil. It gives up, with the last error of
// check, when ctx ends.
func poll(ctx context.Context, check func() error) error {
	return try(ctx, 50*time.Millisecond, nil, check)
}

// errEnded means that what is waited for has ended.
var errEnded = errors.New("ended")

// try calls check every so often until it returns nil, ctx ends, or ended is
// closed.
func try(ctx context.Context, every time.Duration, ended <-chan struct{}, check func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// ask sends a request to a unix socket and returns nil if the answer is OK.
func ask(ctx context.Context, socket, method, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return err
	}
	resp, err := overSocket(socket).RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return nil
}

// overSocket has each request go to a unix socket, on a connection of its own.
func overSocket(socket string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}
