package coordination

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Validate returns an error if no state of the records could make ops right:
// ErrTooLarge beyond the limits, another if a key is malformed or occurs twice
// or an operation is unknown. Every Coordinator asks it before anything else.
func Validate(ops []Op) error {
	if len(ops) > MaxOps {
		return fmt.Errorf("%d operations: %w", len(ops), ErrTooLarge)
	}
	seen := make(map[string]bool, len(ops))
	size := 0
	for _, op := range ops {
		key := op.Record.Key
		if len(key) > MaxKey || !wordsAndSlashes(key) {
			return fmt.Errorf("key %.100q is not made of words and slashes, at most %d bytes", key, MaxKey)
		}
		if seen[key] {
			return fmt.Errorf("%s: two operations on one record", key)
		}
		if op.Kind != OpPut && op.Kind != OpDelete && op.Kind != OpCheck {
			return fmt.Errorf("%s: unknown operation %d", key, op.Kind)
		}
		if op.Kind == OpPut {
			size += len(op.Record.Value)
		}
		seen[key] = true
	}
	if size > MaxBytes {
		return fmt.Errorf("values of %d bytes: %w", size, ErrTooLarge)
	}
	return nil
}

// wordsAndSlashes tells whether key can be part of a URL's path as it is: no
// server may take it for another key.
func wordsAndSlashes(key string) bool {
	for word := range strings.SplitSeq(key, "/") {
		if word == "" || word == "." || word == ".." {
			return false
		}
	}
	return utf8.ValidString(key) && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
