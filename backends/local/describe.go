package local

import (
	"context"
	"fmt"
)

// descriptions is the shelf of what Describe was given.
func descriptions() shelf { return shelf{descriptionsDir, ".json", "description-"} }

// Describe keeps text with the volumes, in a file that only root can read.
func (p *Pool) Describe(ctx context.Context, id string, text []byte) error {
	if err := p.put(ctx, descriptions(), id, text); err != nil {
		return fmt.Errorf("describe volume %q: %w", id, classify(err))
	}
	return nil
}

// Descriptions reads all. Files that Describe can't have made are left out.
func (p *Pool) Descriptions(ctx context.Context) (map[string][]byte, error) {
	texts, err := p.all(ctx, descriptions())
	if err != nil {
		return texts, fmt.Errorf("read descriptions: %w", err)
	}
	return texts, nil
}
