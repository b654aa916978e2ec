package backends

import (
	"errors"
	"fmt"
)

// Meaning says what an error means that a storage system gives: a hint for people,
// or "", and the error of this package that it amounts to, or nil.
type Meaning func(err error) (hint string, kind error)

// Classify adds to err what it means. No error stays none.
func (m Meaning) Classify(err error) error {
	if err == nil {
		return nil
	}
	hint, kind := m(err)
	if hint != "" {
		err = fmt.Errorf("%w: %s", err, hint)
	}
	if kind == nil || errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", err, kind)
}

// Wrap is Classify, and says what failed for which volume, unless what failed is
// "", for err says so itself. No error stays none.
func (m Meaning) Wrap(doing, volume string, err error) error {
	switch {
	case err == nil:
		return nil
	case doing == "":
		return m.Classify(err)
	}
	return fmt.Errorf("%s volume %s: %w", doing, volume, m.Classify(err))
}
