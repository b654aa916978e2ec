package command

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dvol/dvold/internal/program"
)

// What Config.Covers may be.
const (
	CoversVolume = "volume" // the host is cut off from the one volume
	CoversPool   = "pool"   // from all volumes of the pool
	CoversHost   = "host"   // from all that it could write to
)

// What Config.Timeout may be. A takeover has to end while Docker still waits.
const (
	minTimeout = time.Second
	maxTimeout = 80 * time.Second
)

// Facts are recorded with each volume that is owned.
const (
	maxFacts = 32
	maxFact  = 1024 // bytes of a value
)

// Config describes a command.
type Config struct {
	// Argv is what is run: the absolute path of a program that nobody but root
	// can change, and its arguments. No shell sees it.
	Argv []string
	// Timeout is how long the command may take.
	Timeout time.Duration
	// Covers says what the command cuts a host off from at once.
	Covers string
	// Facts are what whoever fences this host tells the command about it.
	Facts map[string]string
}

var factName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,62}$`)

// Validate returns an error that names the key of the pool at fault.
func (c Config) Validate() error {
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		return fmt.Errorf("fence_command: %q does not begin with an absolute path", c.Argv)
	}
	if slices.ContainsFunc(c.Argv, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		return fmt.Errorf("fence_command: %q has a zero byte, which no argument can have", c.Argv)
	}
	if c.Timeout < minTimeout || c.Timeout > maxTimeout {
		return fmt.Errorf("fence_timeout: %v is not between %v and %v", c.Timeout, minTimeout, maxTimeout)
	}
	if !slices.Contains([]string{CoversVolume, CoversPool, CoversHost}, c.Covers) {
		return fmt.Errorf("fence_covers: %q is not one of: %s, %s, %s", c.Covers, CoversVolume, CoversPool, CoversHost)
	}
	if err := checkFacts(c.Facts); err != nil {
		return fmt.Errorf("fence_facts: %w", err)
	}
	if err := program.CheckTrusted(c.Argv[0]); err != nil {
		return fmt.Errorf("fence_command: %w", err)
	}
	return nil
}

func checkFacts(facts map[string]string) error {
	if len(facts) > maxFacts {
		return fmt.Errorf("%d are more than %d", len(facts), maxFacts)
	}
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		value := facts[name]
		switch {
		case !factName.MatchString(name):
			return fmt.Errorf("%q is not a name: want up to 63 letters, digits, dots, dashes and underscores, a letter first", name)
		case len(value) > maxFact:
			return fmt.Errorf("%s has %d bytes, more than %d", name, len(value), maxFact)
		case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("%s: %q is not one line of text", name, value)
		}
	}
	_, err := factVariables(facts)
	return err
}
