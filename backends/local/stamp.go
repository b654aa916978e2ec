package local

import (
	"context"
	"fmt"
)

// stamps is the shelf of what Stamp was given.
func stamps() shelf { return shelf{stampsDir, ".json", "stamp-"} }

// Stamp keeps text with the volumes, in a file that only root can read.
func (p *Pool) Stamp(ctx context.Context, id string, text []byte) error {
	if err := p.put(ctx, stamps(), id, text); err != nil {
		return fmt.Errorf("stamp volume %q: %w", id, classify(err))
	}
	return nil
}

// Stamped reads what Stamp was given.
func (p *Pool) Stamped(ctx context.Context, id string) ([]byte, error) {
	text, err := p.get(ctx, stamps(), id)
	if err != nil {
		return nil, fmt.Errorf("read the stamp of volume %q: %w", id, classify(err))
	}
	return text, nil
}
