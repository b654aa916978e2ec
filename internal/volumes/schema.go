package volumes

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// unmarshal reads a stored value, which what names in errors. The schema number
// is looked at first: what a newer dvold wrote may differ in anything else, and
// this one must not act on what it does not understand.
func unmarshal(what string, value []byte, newest int, into any) error {
	var s struct {
		Schema int `json:"schema"`
	}
	err := json.Unmarshal(value, &s)
	if err == nil && s.Schema > newest {
		return fmt.Errorf("%s was written by a newer dvold (schema %d, this one knows %d): upgrade this host: %w", what, s.Schema, newest, ErrUnavailable)
	}
	if err == nil {
		err = json.Unmarshal(value, into)
	}
	if err != nil {
		return fmt.Errorf("%s is damaged: %w", what, err)
	}
	if s.Schema < 1 {
		return fmt.Errorf("%s is damaged: it has no schema number", what)
	}
	return nil
}

// unknownFields returns the fields of a stored record that this dvold does not
// know, or nil. A newer one may add some without a new schema number, and they
// must outlive what this one writes.
func unknownFields(value []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return nil, err
	}
	known := reflect.TypeFor[record]()
	for i := range known.NumField() {
		name, _, _ := strings.Cut(known.Field(i).Tag.Get("json"), ",")
		delete(fields, name)
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return fields, nil
}

// withFields adds fields to an object.
func withFields(object []byte, fields map[string]json.RawMessage) ([]byte, error) {
	if len(fields) == 0 {
		return object, nil
	}
	all := maps.Clone(fields)
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}
