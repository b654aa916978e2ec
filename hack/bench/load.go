package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
)

// volumeKeys is what the keys of dvold's volumes begin with, in Consul.
const volumeKeys = "dvol/records/volumes/"

// seed is a volume's record, to be copied under other names.
type seed map[string]json.RawMessage

// volumeKey is the key of the volume's record in Consul.
func volumeKey(name string) string {
	return fmt.Sprintf("%s%02x/%s", volumeKeys, sha256.Sum256([]byte(name))[0], name)
}

// readSeed reads the record of a volume that dvold made.
func readSeed(ctx context.Context, a agent, name string) (seed, error) {
	pairs, err := a.pairs(ctx, volumeKey(name))
	if err != nil {
		return nil, err
	}
	if len(pairs) == 0 || pairs[0].Key != volumeKey(name) {
		return nil, fmt.Errorf("volume %s has no record at %s", name, volumeKey(name))
	}
	var s seed
	return s, json.Unmarshal(pairs[0].Value, &s)
}

// named is the change that makes a volume like the seed.
func (s seed) named(name string) (change, error) {
	s = maps.Clone(s)
	for field, value := range map[string]string{"name": name, "id": name + ".0123456789ab"} {
		text, err := json.Marshal(value)
		if err != nil {
			return change{}, err
		}
		s[field] = text
	}
	value, err := json.Marshal(s)
	return change{"set", volumeKey(name), value}, err
}

// load fills Consul until there are n volumes, quicker than dvold could make
// them. They have no data.
func (b *clusterBench) load(n int) error {
	const atOnce, inOne = 8, 60
	from := b.host(1).consul
	have, err := from.keys(b.ctx, volumeKeys, consistent)
	if err != nil {
		return err
	}
	s, err := readSeed(b.ctx, from, "known")
	if err != nil {
		return err
	}
	missing := n - len(have)
	return all(atOnce, func(i int) error {
		to := b.host(1 + i%2).consul // h3 is idle
		for first := i * inOne; first < missing; first += atOnce * inOne {
			var changes []change
			for k := first; k < min(first+inOne, missing); k++ {
				c, err := s.named(loadedName(len(have) + k))
				if err != nil {
					return err
				}
				changes = append(changes, c)
			}
			if err := to.transact(b.ctx, changes...); err != nil {
				return err
			}
		}
		return nil
	})
}

func loadedName(n int) string { return fmt.Sprintf("loaded-%06d", n) }
