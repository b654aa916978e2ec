package volumes

import (
	"errors"
	"fmt"

	"github.com/dvol/dvold/coordination"
)

// notNow is ErrUnavailable with a text of its own, which need not speak of
// storage.
type notNow struct{ error }

func (e notNow) Unwrap() error        { return e.error }
func (e notNow) Is(target error) bool { return target == ErrUnavailable }

// unavailablef is fmt.Errorf for an ErrUnavailable.
func unavailablef(format string, args ...any) error { return notNow{fmt.Errorf(format, args...)} }

// unavailable marks a coordinator's passing failure as ErrUnavailable.
func unavailable(err error) error {
	if errors.Is(err, coordination.ErrUnavailable) || errors.Is(err, coordination.ErrUnknown) || errors.Is(err, coordination.ErrSessionLost) {
		return notNow{err}
	}
	return err
}
