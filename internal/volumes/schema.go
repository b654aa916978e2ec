package volumes

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// errNewer is of what a newer dvold wrote. It comes with ErrUnavailable.
var errNewer = errors.New("written by a newer dvold")

// unmarshal reads a stored value, which what names in errors. What a newer dvold
// wrote may differ in everything but its schema number, so that has the say
// when anything else is wrong: this dvold must not act on what it doesn't
// understand.
func unmarshal(what string, value []byte, newest int, into any) error {
	err := json.Unmarshal(value, into)
	schema := reflect.ValueOf(into).Elem().FieldByName("Schema").Int()
	if err != nil {
		var s struct {
			Schema int64 `json:"schema"`
		}
		if json.Unmarshal(value, &s) == nil {
			schema = s.Schema
		}
	}
	switch {
	case schema > int64(newest):
		return unavailablef("%s was %w (schema %d, this one knows %d): upgrade this host", what, errNewer, schema, newest)
	case err != nil:
		return fmt.Errorf("%s is damaged: %w", what, err)
	case schema < 1:
		return fmt.Errorf("%s is damaged: it has no schema number", what)
	}
	return nil
}

// unknownFields returns the fields of a stored value that its type does not
// know, or nil. A newer dvold may add some without a new schema number, and they
// must outlive what this one writes.
func unknownFields(known reflect.Type, stored []byte) (map[string]json.RawMessage, error) {
	if stored == nil {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(stored, &fields); err != nil {
		return nil, err
	}
	for i := range known.NumField() {
		name, _, _ := strings.Cut(known.Field(i).Tag.Get("json"), ",")
		delete(fields, name)
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return fields, nil
}

// marshal is a value as it is stored, with the unknown fields of what it was
// read from, if that is not nil.
func marshal[T any](value T, stored []byte) ([]byte, error) {
	unknown, err := unknownFields(reflect.TypeFor[T](), stored)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil || unknown == nil {
		return text, err
	}
	if err := json.Unmarshal(text, &unknown); err != nil {
		return nil, err
	}
	return json.Marshal(unknown)
}
