package config

import (
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Pool is a place to make volumes in.
type Pool struct {
	Type      string    `yaml:"type"`
	TrashTTL  *Duration `yaml:"trash_ttl"` // nil means Config.TrashTTL
	Exclusive Exclusive `yaml:"exclusive"`

	// Source says where the pool is described, for error messages.
	Source string `yaml:"-"`

	file string
	path string     // such as "pools.gv0"
	node *yaml.Node // the keys of its backend
}

// poolsIn returns the pools that root describes.
func poolsIn(file string, root *yaml.Node) (map[string]Pool, error) {
	pools := make(map[string]Pool)
	if root == nil {
		return pools, nil
	}
	for key, all := range pairs(root) {
		if key.Value != "pools" || isNull(all) {
			continue
		}
		if all.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("%s:%d: pools: want names and settings of pools, not %s", file, all.Line, kindOf(all))
		}
		for name, node := range pairs(all) {
			if !matches(`[A-Za-z0-9][A-Za-z0-9_-]{0,62}`, name.Value) {
				return nil, fmt.Errorf("%s:%d: pool name %q: want up to 63 letters, digits, dashes and underscores", file, name.Line, name.Value)
			}
			pool, err := newPool(file, name, node)
			if err != nil {
				return nil, err
			}
			pools[name.Value] = pool
		}
	}
	return pools, nil
}

// ofAllPools are the keys that do not depend on a pool's type.
func ofAllPools() []string { return []string{"type", "trash_ttl", "exclusive"} }

// newPool takes what all pools have in common out of node.
func newPool(file string, name, node *yaml.Node) (Pool, error) {
	p := Pool{
		Exclusive: defaultExclusive(),
		file:      file, path: "pools." + name.Value, node: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: name.Line},
	}
	p.Source = fmt.Sprintf("%s:%d: %s", file, name.Line, p.path)
	if node.Kind != yaml.MappingNode && !isNull(node) {
		return Pool{}, fmt.Errorf("%s: want settings, not %s", p.Source, kindOf(node))
	}
	for key, value := range pairs(node) {
		if isNull(value) && slices.Contains(ofAllPools(), key.Value) {
			continue
		}
		switch key.Value {
		case "type":
			if value.Kind != yaml.ScalarNode {
				return Pool{}, fmt.Errorf("%s:%d: %s.type: want a text, not %s", file, value.Line, p.path, kindOf(value))
			}
			p.Type = value.Value
		case "trash_ttl":
			p.TrashTTL = new(Duration)
			if err := p.check(value, reflect.TypeFor[Duration](), p.path+".trash_ttl"); err != nil {
				return Pool{}, err
			}
			if err := value.Decode(p.TrashTTL); err != nil {
				return Pool{}, located(file, err)
			}
		case "exclusive":
			if err := p.setExclusive(value); err != nil {
				return Pool{}, err
			}
		default:
			p.node.Content = append(p.node.Content, key, value)
		}
	}
	if p.Type == "" {
		return Pool{}, fmt.Errorf("%s: type is not set", p.Source)
	}
	return p, nil
}
