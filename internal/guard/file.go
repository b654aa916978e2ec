package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The files of a book, on a tmpfs. Only dvold writes orders, only the guard
// outcomes, each whole by a rename. Both are void under another boot ID: their
// times would mean nothing.
const (
	ordersFile   = "orders.json"
	outcomesFile = "outcomes.json"
	lockFile     = "guard.lock" // locked by the guard
	reserveFile  = "reserve"    // room for the orders in a tmpfs that is full
)

// schema is the newest form of these files that this dvold understands.
const schema = 1

// errNewer is of what a newer dvold wrote.
var errNewer = errors.New("written by a newer dvold")

// orders is the file of the orders.
type orders struct {
	Schema int     `json:"schema"`
	Boot   string  `json:"boot"`
	Book   string  `json:"book"` // which only a book that was lost and begun anew has another of
	Orders []Order `json:"orders"`
}

// outcomes is the file of what was done about them.
type outcomes struct {
	Schema     int                `json:"schema"`
	Boot       string             `json:"boot"`
	PID        int                `json:"pid"`
	Namespaces []string           `json:"namespaces"` // which the guard sees
	Beat       time.Duration      `json:"beat"`       // when it had read the orders as they were
	Outcomes   map[string]Outcome `json:"outcomes"`   // by the volume's ID
}

// parseOrders reads the file of the orders. Of another boot there are none.
func parseOrders(text []byte, boot string) (orders, error) {
	var f orders
	if err := unmarshal(text, &f, &f.Schema); err != nil {
		return orders{}, err
	}
	if f.Boot != boot {
		return orders{}, nil
	}
	if f.Book == "" {
		return orders{}, errors.New("damaged: of no book")
	}
	if err := checkOrders(f.Orders); err != nil {
		return orders{}, fmt.Errorf("damaged: %w", err)
	}
	return f, nil
}

// parseOutcomes reads the file of the outcomes. Of another boot there are none.
func parseOutcomes(text []byte, boot string) (outcomes, error) {
	var f outcomes
	if err := unmarshal(text, &f, &f.Schema); err != nil {
		return outcomes{}, err
	}
	if f.Boot != boot {
		return outcomes{}, nil
	}
	return f, nil
}

// unmarshal reads a file with a schema number, which has the say when anything
// else is wrong.
func unmarshal(text []byte, into any, found *int) error {
	err := json.Unmarshal(text, into)
	if err != nil {
		var s struct {
			Schema int `json:"schema"`
		}
		if json.Unmarshal(text, &s) == nil {
			*found = s.Schema
		}
	}
	switch {
	case *found > schema:
		return fmt.Errorf("%w (schema %d, this one knows %d)", errNewer, *found, schema)
	case err != nil:
		return fmt.Errorf("damaged: %w", err)
	case *found < 1:
		return errors.New("damaged: it has no schema number")
	}
	return nil
}

// write replaces a file of dir whole, and leaves it as it is if that fails.
func write(dir, name string, text []byte) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// makeDir makes the directory of a book.
func makeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil { // as for the journal beside it
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
