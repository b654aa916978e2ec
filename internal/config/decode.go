package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Decode fills into, a pointer to a struct with yaml tags, with what the pool
// says, and leaves in it what the pool doesn't mention. A key that the struct
// has no field for, or a value that doesn't fit, is an error.
func (p Pool) Decode(into any) error {
	if err := p.decode(into); err != nil {
		return errors.New(printable(err.Error()))
	}
	return nil
}

func (p Pool) decode(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("%s: decode into %T, which is not a pointer to a struct", p.Source, into)
	}
	if err := p.check(p.node, v.Elem().Type(), p.path); err != nil {
		return err
	}
	if err := withoutNulls(p.node).Decode(into); err != nil {
		return located(p.file, err)
	}
	return nil
}

// withoutNulls returns node without the keys that have no value, for which
// yaml would empty lists and maps.
func withoutNulls(node *yaml.Node) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return node
	}
	pruned := *node
	pruned.Content = nil
	for key, value := range pairs(node) {
		if !isNull(value) {
			pruned.Content = append(pruned.Content, key, withoutNulls(value))
		}
	}
	return &pruned
}

// check returns an error unless node fits into a t. It says so in the words of
// the file, where yaml's own decoder would speak of Go, and of no line.
func (p Pool) check(node *yaml.Node, t reflect.Type, path string) error {
	wrong := func(want string) error {
		return fmt.Errorf("%s:%d: %s: want %s, not %s", p.file, node.Line, path, want, kindOf(node))
	}
	if isNull(node) {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		return p.check(node, t.Elem(), path)
	}
	switch own := reflect.New(t).Interface().(type) {
	case yaml.Unmarshaler:
		return nil
	case encoding.TextUnmarshaler:
		if node.Kind != yaml.ScalarNode {
			return wrong("a text")
		}
		if err := own.UnmarshalText([]byte(node.Value)); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", p.file, node.Line, path, err)
		}
		return nil
	case *time.Duration:
		if _, err := time.ParseDuration(node.Value); err != nil {
			return wrong("a time, such as 30s or 5m")
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		if node.Kind != yaml.MappingNode {
			return wrong("settings")
		}
		return p.checkFields(node, t, path)
	case reflect.Map:
		if node.Kind != yaml.MappingNode {
			return wrong("settings")
		}
		for key, value := range pairs(node) {
			if err := p.check(value, t.Elem(), path+"."+key.Value); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			return wrong("a list")
		}
		for i, value := range node.Content {
			item := fmt.Sprintf("%s[%d]", path, i)
			if isNull(value) { // which yaml's decoder drops
				return fmt.Errorf("%s:%d: %s: it has no value: give it one, or leave it out", p.file, value.Line, item)
			}
			if err := p.check(value, t.Elem(), item); err != nil {
				return err
			}
		}
	case reflect.String:
		if node.Kind != yaml.ScalarNode {
			return wrong("a text")
		}
	case reflect.Bool:
		if node.Tag != "!!bool" {
			return wrong("true or false")
		}
	default:
		err := node.Decode(reflect.New(t).Interface())
		if v := reflect.Zero(t); (v.CanInt() || v.CanUint()) && (err != nil || node.Tag != "!!int") {
			return wrong("a whole number") // yaml cuts 1.5 to 1
		}
		if err != nil {
			return wrong("a value of type " + t.String())
		}
	}
	return nil
}

// checkFields is check for a struct.
func (p Pool) checkFields(node *yaml.Node, t reflect.Type, path string) error {
	fields := fieldsOf(t)
	for key, value := range pairs(node) {
		field, ok := fields[key.Value]
		if !ok {
			valid := slices.Collect(maps.Keys(fields))
			if path == p.path {
				valid = append(valid, ofAllPools()...)
			}
			slices.Sort(valid)
			return fmt.Errorf("%s:%d: unknown key %s.%s (valid: %s)", p.file, key.Line, path, key.Value, strings.Join(valid, ", "))
		}
		if err := p.check(value, field, path+"."+key.Value); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOf returns the types of t's fields by the names that yaml gives them.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type)
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported() || name == "-":
		case strings.Contains(options, "inline") && field.Type.Kind() == reflect.Struct:
			maps.Copy(fields, fieldsOf(field.Type))
		case name == "":
			fields[strings.ToLower(field.Name)] = field.Type
		default:
			fields[name] = field.Type
		}
	}
	return fields
}
