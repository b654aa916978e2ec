package gluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
)

// pendingPause is how often bricks are asked what they are at.
const pendingPause = 100 * time.Millisecond

// drain waits until the bricks have done all that they are at: what they
// had read of a client before that was cut off, they carry out.
func (m management) drain(ctx context.Context, volume string) error {
	before, err := m.pending(ctx, volume)
	if err != nil {
		return err
	}
	for len(before) > 0 {
		now, err := m.pending(ctx, volume)
		if err != nil {
			return err
		}
		maps.DeleteFunc(before, func(call string, _ bool) bool { return !now[call] })
		if len(before) == 0 {
			break
		}
		pause(ctx, pendingPause)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("bricks still at what they were asked before: %q: %w: %w", slices.Sorted(maps.Keys(before)), backends.ErrUnavailable, err)
		}
	}
	return nil
}

// pending are the calls that bricks are at: in words that no other call, nor a
// later one, has.
func (m management) pending(ctx context.Context, volume string) (map[string]bool, error) {
	// With --xml it names those of the first brick alone (10.3).
	text, err := m.text(ctx, "volume", "status", volume, "callpool")
	if err != nil {
		return nil, err
	}
	return parsePending(text)
}

// parsePending parses what cli_print_volume_status_callpool in GlusterFS's
// cli-rpc-ops.c prints.
func parsePending(text []byte) (map[string]bool, error) {
	calls := make(map[string]bool)
	bricks, brick, pid := 0, "", ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Brick":
			brick = value
			bricks++
		case "PID":
			pid = value
		case "Unique":
			calls[fmt.Sprintf("%s, call %s of process %s", brick, value, pid)] = true
		}
	}
	if bricks == 0 {
		return nil, fmt.Errorf("glusterd does not say what bricks are at: %w", backends.ErrUnavailable)
	}
	return calls, lines.Err()
}
