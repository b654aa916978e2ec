package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse returns the mapping that file consists of, or nil if it has none.
func parse(file string, content []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, located(file, err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins: want one", file, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, located(file, err)
	}
	root := doc.Content[0]
	if isNull(root) {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want settings, such as \"host: node1\", not %s", file, root.Line, kindOf(root))
	}
	if err := plain(file, root); err != nil {
		return nil, err
	}
	return root, nil
}

// plain refuses what would make a file mean something else than it seems to.
func plain(file string, node *yaml.Node) error {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return fmt.Errorf("%s:%d: anchors and aliases are not supported", file, node.Line)
	}
	if node.Kind == yaml.MappingNode {
		seen := make(map[string]int)
		for key := range pairs(node) {
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || isNull(key) {
				return fmt.Errorf("%s:%d: want a plain word as key", file, key.Line)
			}
			if line, ok := seen[key.Value]; ok {
				return fmt.Errorf("%s:%d: %s was set in line %d already", file, key.Line, key.Value, line)
			}
			seen[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if err := plain(file, child); err != nil {
			return err
		}
	}
	return nil
}

// settingsIn returns the nodes of the settings that root has, by key.
func settingsIn(file string, root *yaml.Node) (map[string]*yaml.Node, error) {
	found := make(map[string]*yaml.Node)
	if root == nil {
		return found, nil
	}
	var sections []string // "log."
	var lists []string
	valid := []string{"pools"}
	for _, s := range settings() {
		valid = append(valid, s.key)
		if s.isList() {
			lists = append(lists, s.key)
		}
		if section, _, ok := strings.Cut(s.key, "."); ok {
			sections = append(sections, section+".")
		}
	}
	slices.Sort(valid)
	var walk func(prefix string, node *yaml.Node) error
	walk = func(prefix string, node *yaml.Node) error {
		for key, value := range pairs(node) {
			name := prefix + key.Value
			switch {
			case name == "pools" || isNull(value) && slices.Contains(valid, name):
			case slices.Contains(sections, name+"."):
				if value.Kind != yaml.MappingNode && !isNull(value) {
					return fmt.Errorf("%s:%d: %s: want settings, not %s", file, value.Line, name, kindOf(value))
				}
				if err := walk(name+".", value); err != nil {
					return err
				}
			case strings.Contains(key.Value, ".") || !slices.Contains(valid, name):
				return fmt.Errorf("%s:%d: unknown key %s (valid: %s)", file, key.Line, name, strings.Join(valid, ", "))
			case value.Kind == yaml.SequenceNode && slices.Contains(lists, name):
				joined, err := join(file, name, value)
				if err != nil {
					return err
				}
				found[name] = joined
			case value.Kind != yaml.ScalarNode:
				return fmt.Errorf("%s:%d: %s: want a single value, not %s", file, value.Line, name, kindOf(value))
			default:
				found[name] = value
			}
		}
		return nil
	}
	return found, walk("", root)
}

// join returns a list as the text that stands for it elsewhere.
func join(file, name string, list *yaml.Node) (*yaml.Node, error) {
	texts := make([]string, len(list.Content))
	for i, item := range list.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) || strings.Contains(item.Value, ",") {
			return nil, fmt.Errorf("%s:%d: %s[%d]: want a text without commas, not %s", file, item.Line, name, i, kindOf(item))
		}
		texts[i] = item.Value
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.Join(texts, ","), Line: list.Line}, nil
}

// pairs ranges over the keys and values of a mapping.
func pairs(node *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if !yield(node.Content[i], node.Content[i+1]) {
				return
			}
		}
	}
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// kindOf describes what stands at node.
func kindOf(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(node):
		return "nothing"
	}
	return fmt.Sprintf("%q", node.Value)
}

// located puts the line that yaml names in its error into the usual place, and
// all on one line.
func located(file string, err error) error {
	text := strings.Join(strings.Fields(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "unmarshal errors:", ""), "yaml:")), " ")
	if parts := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(text); parts != nil {
		return fmt.Errorf("%s:%s: %s", file, parts[1], parts[2])
	}
	return fmt.Errorf("%s: %s", file, text)
}
